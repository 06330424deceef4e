"""Choice of the backend by what lies at a path: an exported model folder or a training run."""

from pathlib import Path

from app.model.manifest import MANIFEST_NAME
from model_training.backends.base import RefiningBackend
from model_training.backends.onnx_backend import OnnxBackend


def open_backend(path: Path) -> RefiningBackend:
    """The backend of an exported model folder, or of the best checkpoint of a training run.

    Raises:
        ModelFolderError: there is a damaged model folder.
        ValueError: there is neither, or a damaged checkpoint.
    """
    if (path / MANIFEST_NAME).is_file():
        return OnnxBackend(path)
    from model_training.backends.torch_backend import TorchBackend

    return TorchBackend(path)
