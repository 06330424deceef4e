"""The interface of a backend: a trained model as evaluation and the prior use it, whatever runs it."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from app.images.arrays import ImageArray

Floats = NDArray[np.float32]

BATCH = 128


class Backend(Protocol):
    """Pictures to latents and back, with what describes them."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    @property
    def latent_dim(self) -> int: ...

    def encode(self, pixels: ImageArray) -> tuple[Floats, Floats]:
        """(N, height, width, 3) uint8 -> mean and log-variance, each (N, latent_dim) float32."""
        ...

    def decode(self, latents: Floats) -> ImageArray:
        """(N, latent_dim) float32 -> (N, height, width, 3) uint8."""
        ...


def chunks(rows: NDArray[Any]) -> list[NDArray[Any]]:
    return np.split(rows, range(BATCH, len(rows), BATCH))
