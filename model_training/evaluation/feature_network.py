"""Feature network, exported: images to the features that samples are judged by; ONNX Runtime, no torch."""

from pathlib import Path

from app.images.arrays import ImageArray
from model_training.backends.base import Floats
from model_training.backends.onnx_backend import BatchedSession


class FeatureNetwork:
    """The network that simclr trains: images to points between which distances mean something.

    Attributes:
        width, height: size of the images it takes, in pixels.
    """

    def __init__(self, path: Path) -> None:
        """Read an ONNX file that `fit-features` wrote.

        Raises:
            ValueError: no such file, or another kind of file.
        """
        try:
            self._session = BatchedSession(path)
            _, self.height, self.width, _ = self._session.input_shape
        except Exception as error:  # ONNX Runtime's own kinds have no common base but this
            raise ValueError(f"{path} is not a feature network: {error}") from error

    def __call__(self, images: ImageArray) -> Floats:
        """(N, height, width, 3) uint8 -> features (N, F) float32, of about mean 0 and variance 1."""
        (features,) = self._session(images)
        return features
