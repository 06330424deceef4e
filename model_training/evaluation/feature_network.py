"""Features of pictures, by the network that `contrastive` trains, under ONNX Runtime; needs no torch."""

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from app.images.arrays import ImageArray

Floats = NDArray[np.float32]

BATCH = 128


class FeatureNetwork:
    """Pictures to points between which distances mean something.

    Attributes:
        width, height: size of the pictures it takes, in pixels.
    """

    def __init__(self, path: Path) -> None:
        """Read an ONNX file that `fit-features` wrote.

        Raises:
            ValueError: no such file, or another kind of file.
        """
        try:
            self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            (pictures,) = self._session.get_inputs()
            _, self.height, self.width, _ = pictures.shape
        except Exception as error:  # ONNX Runtime's own kinds have no common base but this
            raise ValueError(f"{path} is not a feature network: {error}") from error

    def __call__(self, pixels: ImageArray) -> Floats:
        """(N, height, width, 3) uint8 -> features (N, F) float32, of about mean 0 and variance 1."""
        chunks = np.split(pixels, range(BATCH, len(pixels), BATCH))
        inputs = ({"pictures": np.ascontiguousarray(chunk)} for chunk in chunks)
        return np.concatenate([self._session.run(None, chunk)[0] for chunk in inputs])
