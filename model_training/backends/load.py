"""The choice of a backend by what lies at a path."""

from pathlib import Path

from app.model.manifest import MANIFEST_NAME
from model_training.backends.base import Codec
from model_training.backends.onnx_backend import OnnxCodec


def open_codec(path: Path) -> Codec:
    """An exported model folder, or the best checkpoint of a training run.

    Raises:
        ValueError: neither is there, or it is damaged.
    """
    if (path / MANIFEST_NAME).is_file():
        return OnnxCodec(path)
    from model_training.backends.torch_backend import TorchCodec

    return TorchCodec(path)
