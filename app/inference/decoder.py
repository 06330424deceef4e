"""The half of a model that draws: its decoder behind a batcher, and the paths through its latent space."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import InferenceFailed
from app.images.arrays import ImageArray
from app.inference.batcher import Batcher
from app.inference.self_check import SelfCheck
from app.model.interpolation import Method, interpolate
from app.model.latents import Latents
from app.model.manifest import Manifest, Precision
from app.model.prior import Prior
from app.timings import Timings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Graphs:
    """What the graphs run on and in which precision; the self-check where that decided it."""

    provider: str
    encoder: Precision = "fp32"
    decoder: Precision = "fp32"
    check: SelfCheck | None = None


class Decoder:
    """A decoder behind its batcher, and the prior."""

    def __init__(self, manifest: Manifest, prior: Prior | None, decoder: Batcher, graphs: Graphs) -> None:
        """Put them together; `graphs` says how the session really runs."""
        self.manifest = manifest
        self.prior = prior
        self.graphs = graphs
        self._decoder = decoder

    async def decode(self, latents: Latents, timings: Timings | None = None) -> ImageArray:
        """Decode (N, L) float32 latents to (N, H, W, 3) uint8 images.

        Raises:
            InferenceFailed: the latents are not finite, or an image is black and so is that of the latent 0,
                a mean car: the graph ends in bytes, and what is not a number becomes 0 there. Also where
                `Batcher.submit` raises it.
        """
        check_rows(latents, np.float32, (self.manifest.latent_dim,))
        check_finite("the decoder was to be given latents", latents)
        (images,) = await self._decoder.submit(latents, timings)
        black = _count_black(images)
        if black and _count_black(await self._decode_zero()):
            logger.error(
                "the decoder gives black, which is what NaN becomes, for %d of %d rows", black, len(images)
            )
            raise InferenceFailed("the model gave values that are not numbers")
        return images

    async def _decode_zero(self) -> ImageArray:
        (images,) = await self._decoder.submit(np.zeros((1, self.manifest.latent_dim), np.float32))
        return images

    def path(self, waypoints: Latents, lambdas: Sequence[float], method: Method = "linear") -> Latents:
        """Points on the path through (W, L) waypoints; see app.model.interpolation.interpolate."""
        return interpolate(waypoints, lambdas, method, self.prior)


def check_finite(what: str, values: NDArray[Any]) -> None:
    """Raises InferenceFailed where a number is none; the log says of which rows of `what`."""
    if not np.isfinite(values).all():
        bad = np.count_nonzero(~np.isfinite(values).all(axis=1))
        logger.error("%s that are not finite, NaN or infinite, for %d of %d rows", what, bad, len(values))
        raise InferenceFailed("the model gave values that are not numbers")


def check_rows(rows: NDArray[Any], dtype: type, row_shape: tuple[int, ...]) -> None:
    """Rows of another kind would fail the whole batch they are in, with other requests in it."""
    if rows.dtype != dtype or rows.shape[1:] != row_shape:
        raise ValueError(f"rows must be {dtype.__name__} {row_shape}, not {rows.dtype} {rows.shape[1:]}")


def _count_black(images: ImageArray) -> int:
    _, height, width, _ = images.shape
    if images[:, height // 2, width // 2, 1].all():  # most have light in the middle: a quick look
        return 0
    return int(np.count_nonzero(~images.any(axis=(1, 2, 3))))
