"""Backend: the interface of a trained model as evaluation, compression and the prior use it."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from app.images.arrays import ImageArray

Floats = NDArray[np.float32]

BATCH_SIZE = 128


class Graphs(Protocol):
    """An encoder and a decoder as they are served, for any number of rows."""

    def encode(self, images: ImageArray) -> tuple[Floats, Floats]:
        """(N, height, width, 3) uint8 -> mean and log-variance, each (N, latent_dim) float32."""
        ...

    def decode(self, latents: Floats) -> ImageArray:
        """(N, latent_dim) float32 -> (N, height, width, 3) uint8."""
        ...


class Backend(Graphs, Protocol):
    """The graphs of a trained model, and their sizes."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    @property
    def latent_dim(self) -> int: ...


class RefiningBackend(Backend, Protocol):
    """A backend that refines latents too."""

    def refine(self, images: ImageArray, latents: Floats) -> Floats:
        """Latents that decode at least as near to their images; the same ones where there is no refiner.

        Args:
            images: (N, height, width, 3) uint8.
            latents: (N, latent_dim) float32, as `encode` gives them.
        """
        ...


def in_batches(rows: NDArray[Any]) -> list[NDArray[Any]]:
    """The rows in order, BATCH_SIZE at a time."""
    return np.split(rows, range(BATCH_SIZE, len(rows), BATCH_SIZE))
