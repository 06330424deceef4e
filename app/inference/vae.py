"""VAE as it is served: encode, refine, decode, reconstruct and measure, sample, interpolate."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidField, NotReady, ServiceError
from app.images.arrays import ImageArray
from app.images.quality import psnr, ssim
from app.inference.batcher import Batcher, BatchObserver, Health
from app.inference.decoder import Decoder, Graphs, check_finite, check_rows
from app.inference.refiner import Refiner, open_refiner
from app.inference.self_check import choose_decoder
from app.inference.session import CPU, SessionSpec, decoder_graph, encoder_graph, open_sessions
from app.model.atlas import Atlas, Direction, read_atlas
from app.model.latents import Latents, standard_draws
from app.model.manifest import Manifest, ModelFolder, Precision
from app.model.prior import Prior, read_prior
from app.timings import Timings

PriorName = Literal["fitted", "standard"]

DIRECTIONS = 8
"""Principal directions of the fitted prior that clients are told."""
DECIMALS = 5
"""Of their vectors: more would double what a client reads, and change no image."""
MEASURED_INLINE = 4
"""Most images whose quality is measured on the event loop, at about 0.2 ms each; more go to a thread."""
DRAWN_INLINE = 4
"""Most draws from the fitted prior on the event loop, at 0.6 to 0.9 ms each; more go to a thread."""


@dataclass(frozen=True, eq=False)
class Posterior:
    """What the encoder says of N images: mean and standard deviation, (N, L) float32 each.

    Where it was refined the mean is the refiner's; the standard deviation is always the encoder's own. So is
    `likeness` (N,), from 0 to 1 and from 0.5 on where an image shows a car; None where the model cannot tell.
    """

    mean: Latents
    std: Latents
    likeness: NDArray[np.float64] | None = None


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


class Vae(Decoder):
    """Both halves of a model behind their batchers, a refiner where there is one, and the prior.

    What encodes, refines and decodes raises what Batcher.submit raises.
    """

    def __init__(
        self,
        manifest: Manifest,
        prior: Prior | None,
        encoder: Batcher,
        decoder: Batcher,
        graphs: Graphs,
        refiner: Refiner | None = None,
        atlas: Atlas | None = None,
    ) -> None:
        """Put a model together; `graphs` says how its sessions really run."""
        super().__init__(manifest, prior, decoder, graphs)
        self.atlas = atlas
        named = () if atlas is None else atlas.directions
        self.directions = (*(() if prior is None else _directions(prior)), *named)
        self._encoder = encoder
        self._refiner = refiner
        # As requests pass them.
        self._batchers = (encoder, *(() if refiner is None else (refiner.batcher,)), decoder)
        size = manifest.image_size
        self._image_shape = (size.height, size.width, 3)

    def start(self) -> None:
        """Start the batchers; to be called on the event loop that serves."""
        for batcher in self._batchers:
            batcher.start()

    async def drain(self) -> None:
        """Refuse new work and finish what was accepted, in the order in which requests pass."""
        for batcher in self._batchers:
            await batcher.drain()

    def close(self) -> None:
        """Refuse new work and answer what is waiting with NotReady."""
        for batcher in self._batchers:
            batcher.close()

    def queued_rows(self) -> dict[str, int]:
        """Rows that wait for a run, of each graph."""
        return {batcher.name: batcher.queued_rows for batcher in self._batchers}

    def health(self) -> Health:
        """Whether encoder and decoder answer, as far as their last batches tell. The refiner does not count:
        where it fails, all that needs no refining is served on."""
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

    @property
    def refines(self) -> bool:
        """Whether it can refine latents."""
        return self._refiner is not None

    def check_refines(self) -> Refiner:
        """The refiner, of a request that asked for it.

        Raises:
            InvalidField: the model has none, or it is switched off.
        """
        if self._refiner is None:
            has_one = self.manifest.files.refiner is not None
            reason = "refining is switched off in this service" if has_one else "this model has no refiner"
            raise InvalidField([("query.refine", f"must be false or left out: {reason}")])
        return self._refiner

    async def refine(self, images: ImageArray, latents: Latents, timings: Timings | None = None) -> Latents:
        """Bring latents (N, L) float32 nearer to their images (N, H, W, 3) uint8; see Refiner.refine.

        Raises:
            InvalidField: there is no refiner.
        """
        refiner = self.check_refines()
        check_rows(images, np.uint8, self._image_shape)
        check_rows(latents, np.float32, (self.manifest.latent_dim,))
        return await refiner.refine(images, latents, timings)

    async def encode(
        self, images: ImageArray, timings: Timings | None = None, *, refine: bool = False
    ) -> Posterior:
        """Encode (N, H, W, 3) uint8 images of the model's size; `refine` improves the means.

        Raises:
            InferenceFailed: what comes out is not finite; also where `Batcher.submit` raises it.
            InvalidField: there is no refiner.
        """
        check_rows(images, np.uint8, self._image_shape)
        mean, log_variance = await self._encoder.submit(images, timings)
        with np.errstate(over="ignore"):
            std = np.exp(0.5 * log_variance)
        check_finite("the encoder gave means", mean)
        check_finite("the encoder gave standard deviations", std)
        refined = await self.refine(images, mean, timings) if refine else mean
        return Posterior(refined, std, self.likeness(mean))

    def likeness(self, means: Latents) -> NDArray[np.float64] | None:
        """What `Posterior.likeness` is of the encoder's own means (N, L) float32."""
        return None if self.atlas is None or self.atlas.likeness is None else self.atlas.likeness(means)

    def expecting(self, images: int) -> AbstractContextManager[None]:
        """To be held while so many images are made ready for `encode`: see Batcher.expecting."""
        return self._encoder.expecting(images)

    async def reconstruct(
        self,
        images: ImageArray,
        timings: Timings | None = None,
        *,
        refine: bool = False,
        measure: bool = False,
    ) -> Reconstruction:
        """Encode images and decode their means, refined where asked; `measure` compares with the input."""
        posterior = await self.encode(images, timings, refine=refine)
        decoded = await self.decode(posterior.mean, timings)
        quality = None
        if measure and len(images) <= MEASURED_INLINE:
            quality = _measure(images, decoded)
        elif measure:
            quality = await asyncio.to_thread(_measure, images, decoded)
        return Reconstruction(decoded, posterior, quality)

    def check_prior(self, prior: PriorName | None) -> None:
        """Raises InvalidField where the fitted prior is asked for and the model has none."""
        if prior == "fitted" and self.prior is None:
            raise InvalidField([("prior", 'this model has no fitted prior; ask for "standard"')])

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
        self.check_prior(prior)
        if prior == "standard" or self.prior is None:
            return standard_draws(count, self.manifest.latent_dim, seed, temperature)
        return self.prior.draw(count, seed, temperature)


def load_vae(
    folder: ModelFolder,
    spec: SessionSpec,
    *,
    max_queue_rows: int,
    max_refine_rows: int,
    queue_timeout: float,
    observer: BatchObserver,
    shared: Path | None = None,
) -> Vae:
    """Open the sessions of a model on their provider, warm them up and, where asked, check int8.

    Args:
        folder: the model's files, verified.
        spec: decides the sessions and the size of batches.
        max_queue_rows: most rows waiting before encoder and decoder each; at least as many as the largest
            request has.
        max_refine_rows: the same before the refiner; 0 to go without, and load nothing.
        queue_timeout: seconds a request may wait before each graph.
        observer: is told of every batch of `encoder`, `decoder` and `refiner`.
        shared: folder in which the workers of a service agree on what the self-check says.

    Raises:
        ModelFolderError, ProviderUnavailable.
    """
    manifest = folder.manifest
    files = manifest.files
    prior = None if files.prior is None else read_prior(folder.content(files.prior), manifest.latent_dim)
    precision: Precision = "int8" if spec.precision == "int8" else "fp32"
    encoder_file, decoder_file = files.graphs(precision)
    models = {
        encoder_graph(manifest, precision): folder.content(encoder_file),
        decoder_graph(manifest, precision): folder.content(decoder_file),
    }
    encoder, decoder = open_sessions(models, spec)
    check = None
    if spec.precision == "auto" and encoder.provider == CPU and files.int8 is not None:
        decoder, check = choose_decoder(decoder, folder, spec, prior, shared)
    graphs = Graphs(encoder.provider, precision, "int8" if check and check.passed else precision, check)
    limits: dict[str, Any] = {"queue_timeout": queue_timeout, "observer": observer}
    encoding, decoding = (
        Batcher(
            name, session.run, max_batch_rows=session.max_batch_rows, max_queue_rows=max_queue_rows, **limits
        )
        for name, session in (("encoder", encoder), ("decoder", decoder))
    )
    refiner = None
    if files.refiner is not None and max_refine_rows > 0:
        session = open_refiner(folder, files.refiner, spec, encoder.provider)
        refiner = Refiner(session, max_queue_rows=max_refine_rows, **limits)
    return Vae(manifest, prior, encoding, decoding, graphs, refiner, read_atlas(folder))


def _directions(prior: Prior) -> tuple[Direction, ...]:
    vectors, deviations = prior.principal_directions(DIRECTIONS)
    return tuple(
        Direction(vector.round(DECIMALS).astype(np.float32), float(std))
        for vector, std in zip(vectors, deviations, strict=True)
    )


def _measure(originals: ImageArray, images: ImageArray) -> Quality:
    return Quality(psnr(originals, images), ssim(originals, images))
