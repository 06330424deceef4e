"""The choice of a backend by what lies at a path."""

from pathlib import Path

from app.model.manifest import MANIFEST_NAME
from model_training.backends.base import Backend
from model_training.backends.onnx_backend import OnnxBackend


def open_backend(path: Path) -> Backend:
    """An exported model folder, or the best checkpoint of a training run.

    Raises:
        ValueError: neither is there, or it is damaged.
    """
    if (path / MANIFEST_NAME).is_file():
        return OnnxBackend(path)
    from model_training.backends.torch_backend import TorchBackend

    return TorchBackend(path)
