"""VAE as it is served: encode, decode, reconstruct and measure, sample, interpolate, over two batchers."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from app.errors import InferenceFailed, InvalidField, NotReady, ServiceError
from app.images.arrays import ImageArray
from app.images.quality import psnr, ssim
from app.inference.batcher import Batcher, BatchObserver, Health
from app.inference.session import SessionSpec, decoder_graph, encoder_graph, open_sessions
from app.model.interpolation import Method, interpolate
from app.model.latents import Latents, standard_draws
from app.model.manifest import Manifest, ModelFolder
from app.model.prior import Prior, read_prior
from app.timings import Timings

PriorName = Literal["fitted", "standard"]

DIRECTIONS = 8
"""Principal directions of the fitted prior that clients are told."""
MEASURED_INLINE = 4
"""Most images whose quality is measured on the event loop, at about 0.2 ms each; more go to a thread."""
DRAWN_INLINE = 4
"""Most draws from the fitted prior on the event loop, at 0.6 to 0.9 ms each; more go to a thread."""
ORDINARY_LATENT = 30.0
"""Within it no decoder that is shipped makes an image that is black in every pixel: the latents of a black
photograph are below 10, and it takes some hundreds in one direction to come to black."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Posterior:
    """What the encoder says of N images: mean and standard deviation, (N, L) float32 each."""

    mean: Latents
    std: Latents


@dataclass(frozen=True, eq=False)
class Quality:
    """Per image: PSNR in dB, 100 where identical, and SSIM; see app.images.quality."""

    psnr: NDArray[np.float64]
    ssim: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Images decoded from the means of their posteriors; `quality` where it was asked for."""

    images: ImageArray
    posterior: Posterior
    quality: Quality | None


@dataclass(frozen=True, eq=False)
class Direction:
    """A way in which cars differ most: a unit `vector` (L,) float32 and the standard deviation along it."""

    vector: Latents
    std: float


class Vae:
    """An encoder and a decoder behind their batchers, and the prior of their latents."""

    def __init__(
        self, manifest: Manifest, prior: Prior | None, encoder: Batcher, decoder: Batcher, provider: str
    ) -> None:
        """Put a model together; `provider` is the one its sessions really run on."""
        self.manifest = manifest
        self.prior = prior
        self.directions = () if prior is None else _directions(prior)
        self.provider = provider
        self._encoder = encoder
        self._decoder = decoder
        size = manifest.image_size
        self._image_shape = (size.height, size.width, 3)

    def start(self) -> None:
        """Start the batchers; to be called on the event loop that serves."""
        self._encoder.start()
        self._decoder.start()

    async def drain(self) -> None:
        """Refuse new work and finish what was accepted; the encoder first, as requests pass it first."""
        await self._encoder.drain()
        await self._decoder.drain()

    def close(self) -> None:
        """Refuse new work and answer what is waiting with NotReady."""
        self._encoder.close()
        self._decoder.close()

    def queued_rows(self) -> dict[str, int]:
        """Rows that wait for a run, of each graph."""
        return {batcher.name: batcher.queued_rows for batcher in (self._encoder, self._decoder)}

    def health(self) -> Health:
        """Whether encoder and decoder answer, as far as their last batches tell."""
        return Health(self._encoder.health().reason or self._decoder.health().reason)

    async def probe(self) -> None:
        """Run one row through encoder and decoder, as a request would.

        Raises:
            NotReady: one of them does not answer; the message says why.
        """
        try:
            await self.encode(np.zeros((1, *self._image_shape), np.uint8))
            await self.decode(np.zeros((1, self.manifest.latent_dim), np.float32))
        except ServiceError as error:
            raise NotReady(str(error)) from error

    async def encode(self, images: ImageArray, timings: Timings | None = None) -> Posterior:
        """Encode (N, H, W, 3) uint8 images of the model's size.

        Raises:
            InferenceFailed: what comes out is not finite; also where `Batcher.submit` raises it.
        """
        _check(images, np.uint8, self._image_shape)
        mean, log_variance = await self._encoder.submit(images, timings)
        with np.errstate(over="ignore"):
            std = np.exp(0.5 * log_variance)
        _check_finite("the encoder gave means", mean)
        _check_finite("the encoder gave standard deviations", std)
        return Posterior(mean, std)

    def expecting(self, images: int) -> AbstractContextManager[None]:
        """To be held while so many images are made ready for `encode`: see Batcher.expecting."""
        return self._encoder.expecting(images)

    async def decode(self, latents: Latents, timings: Timings | None = None) -> ImageArray:
        """Decode (N, L) float32 latents to (N, H, W, 3) uint8 images.

        Raises:
            InferenceFailed: the latents are not finite, or an image is black where no latent is out of the
                ordinary: the graph ends in bytes, and what is not a number becomes 0 there. Also where
                `Batcher.submit` raises it.
        """
        _check(latents, np.float32, (self.manifest.latent_dim,))
        _check_finite("the decoder was to be given latents", latents)
        (images,) = await self._decoder.submit(latents, timings)
        _check_lit(images, latents)
        return images

    async def reconstruct(
        self, images: ImageArray, timings: Timings | None = None, *, measure: bool = False
    ) -> Reconstruction:
        """Encode images and decode their means; `measure` compares the result with the input."""
        posterior = await self.encode(images, timings)
        decoded = await self.decode(posterior.mean, timings)
        quality = None
        if measure and len(images) <= MEASURED_INLINE:
            quality = _measure(images, decoded)
        elif measure:
            quality = await asyncio.to_thread(_measure, images, decoded)
        return Reconstruction(decoded, posterior, quality)

    async def draw(
        self, count: int, seed: int, temperature: float = 1.0, prior: PriorName | None = None
    ) -> Latents:
        """(count, L) draws from the `fitted` prior or from N(0, 1); by default the fitted one, if any.

        Raises:
            InvalidField: the fitted prior was asked for and the model has none.
        """
        draw = partial(self._draw, count, seed, temperature, prior)
        return draw() if count <= DRAWN_INLINE else await asyncio.to_thread(draw)

    async def draw_each(self, seeds: Sequence[int]) -> Latents:
        """What `draw` gives for each of several seeds: (len(seeds), L)."""
        draws = await asyncio.to_thread(lambda: [self._draw(1, seed) for seed in seeds])
        return np.concatenate(draws)

    def _draw(
        self, count: int, seed: int, temperature: float = 1.0, prior: PriorName | None = None
    ) -> Latents:
        if prior == "fitted" and self.prior is None:
            raise InvalidField([("prior", 'this model has no fitted prior; ask for "standard"')])
        if prior == "standard" or self.prior is None:
            return standard_draws(count, self.manifest.latent_dim, seed, temperature)
        return self.prior.draw(count, seed, temperature)

    def path(self, waypoints: Latents, lambdas: Sequence[float], method: Method = "linear") -> Latents:
        """Points on the path through (W, L) waypoints; see app.model.interpolation.interpolate."""
        return interpolate(waypoints, lambdas, method, self.prior)


def load_vae(
    folder: ModelFolder,
    spec: SessionSpec,
    *,
    max_queue_rows: int,
    queue_timeout: float,
    observer: BatchObserver,
) -> Vae:
    """Open the sessions of a model on their provider and warm them up.

    Args:
        folder: the model's files, verified.
        spec: decides the sessions and the size of batches.
        max_queue_rows: most rows waiting before each graph; at least as many as the largest request has.
        queue_timeout: seconds a request may wait before each graph.
        observer: is told of every batch of `encoder` and `decoder`.

    Raises:
        ModelFolderError, ProviderUnavailable.
    """
    manifest = folder.manifest
    files = manifest.files
    prior = None if files.prior is None else read_prior(folder.content(files.prior), manifest.latent_dim)
    encoder_file, decoder_file = files.graphs(spec.precision)
    models = {
        encoder_graph(manifest, spec.precision): folder.content(encoder_file),
        decoder_graph(manifest, spec.precision): folder.content(decoder_file),
    }
    sessions = open_sessions(models, spec)
    encoder, decoder = (
        Batcher(
            name,
            session.run,
            max_batch_rows=session.max_batch_rows,
            max_queue_rows=max_queue_rows,
            queue_timeout=queue_timeout,
            observer=observer,
        )
        for name, session in zip(("encoder", "decoder"), sessions, strict=True)
    )
    return Vae(manifest, prior, encoder, decoder, sessions[0].provider)


def _directions(prior: Prior) -> tuple[Direction, ...]:
    vectors, deviations = prior.principal_directions(DIRECTIONS)
    return tuple(
        Direction(vector.astype(np.float32), float(std))
        for vector, std in zip(vectors, deviations, strict=True)
    )


def _measure(originals: ImageArray, images: ImageArray) -> Quality:
    return Quality(psnr(originals, images), ssim(originals, images))


def _check_finite(what: str, values: NDArray[Any]) -> None:
    if not np.isfinite(values).all():
        bad = np.count_nonzero(~np.isfinite(values).all(axis=1))
        logger.error("%s that are not finite, NaN or infinite, for %d of %d rows", what, bad, len(values))
        raise InferenceFailed("the model gave values that are not numbers")


def _check_lit(images: ImageArray, latents: Latents) -> None:
    _, height, width, _ = images.shape
    if images[:, height // 2, width // 2, 1].all():  # most have light in the middle: a quick look
        return
    black = ~images.any(axis=(1, 2, 3)) & (np.abs(latents).max(axis=1) <= ORDINARY_LATENT)
    if black.any():
        bad = np.count_nonzero(black)
        logger.error("the decoder gave black, which is what NaN becomes, for %d of %d rows", bad, len(images))
        raise InferenceFailed("the model gave values that are not numbers")


def _check(rows: NDArray[Any], dtype: type, row_shape: tuple[int, ...]) -> None:
    """Rows of another kind would fail the whole batch they are in, with other requests in it."""
    if rows.dtype != dtype or rows.shape[1:] != row_shape:
        raise ValueError(f"rows must be {dtype.__name__} {row_shape}, not {rows.dtype} {rows.shape[1:]}")
