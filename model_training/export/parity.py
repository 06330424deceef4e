"""Parity: ONNX against PyTorch, as numbers that must stay below tolerances."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from app.images.arrays import ImageArray
from app.model.manifest import Parity
from model_training.backends.base import BATCH, Floats
from model_training.backends.torch_backend import DecoderGraph, EncoderGraph
from model_training.networks.vae import VAE

CHECKED_BATCHES = (1, 2, 7, 64)

LATENT_TOLERANCE = 1e-3
"""Largest difference allowed between the latents of PyTorch and of ONNX; rounding stays far below."""

GREY_LEVEL_TOLERANCE = 1
"""Values that float32 rounding puts on either side of .5 become neighbouring grey levels."""


class ParityError(ValueError):
    """The exported graphs do not compute what PyTorch computes."""


class Graphs(Protocol):
    """An encoder and a decoder as they are served."""

    def encode(self, pixels: ImageArray) -> tuple[Floats, Floats]:
        """(N, height, width, 3) uint8 -> mean and log-variance, each (N, latent_dim) float32."""
        ...

    def decode(self, latents: Floats) -> ImageArray:
        """(N, latent_dim) float32 -> (N, height, width, 3) uint8."""
        ...


class TorchGraphs:
    """A model in PyTorch, in float32 on the CPU."""

    def __init__(self, model: VAE) -> None:
        self._encoder, self._decoder = EncoderGraph(model), DecoderGraph(model)

    def encode(self, pixels: ImageArray) -> tuple[Floats, Floats]:
        with torch.inference_mode():
            mean, log_variance = self._encoder(torch.from_numpy(pixels))
        return mean.numpy(), log_variance.numpy()

    def decode(self, latents: Floats) -> ImageArray:
        with torch.inference_mode():
            pixels: ImageArray = self._decoder(torch.from_numpy(latents)).numpy()
        return pixels


class OnnxGraphs:
    """Two ONNX files under ONNX Runtime on the CPU, any number of rows at a time."""

    def __init__(self, encoder: Path, decoder: Path) -> None:
        self._encoder, self._decoder = (
            onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            for path in (encoder, decoder)
        )

    def encode(self, pixels: ImageArray) -> tuple[Floats, Floats]:
        parts = [self._encoder.run(None, {"pictures": chunk}) for chunk in _chunks(pixels)]
        mean, log_variance = (np.concatenate(part) for part in zip(*parts, strict=True))
        return mean, log_variance

    def decode(self, latents: Floats) -> ImageArray:
        return np.concatenate([self._decoder.run(None, {"latents": chunk})[0] for chunk in _chunks(latents)])


def _chunks(rows: NDArray[Any]) -> list[NDArray[Any]]:
    return np.split(rows, range(BATCH, len(rows), BATCH))


def check(expected: Graphs, found: Graphs, pictures: ImageArray) -> Parity:
    """Largest differences between two forms of a model, with real pictures and noise of the same size.

    Raises:
        ParityError: they exceed the tolerances.
    """
    random = np.random.default_rng(0)
    largest = np.zeros(3)
    for batch in CHECKED_BATCHES:
        noise = random.integers(0, 256, (batch, *pictures.shape[1:]), dtype=np.uint8)
        for inputs in (noise, pictures[np.arange(batch) % len(pictures)]):
            mean, log_variance = found.encode(inputs)
            expected_mean, expected_log_variance = expected.encode(inputs)
            latents = draws(expected_mean, expected_log_variance, random)
            difference = found.decode(latents).astype(int) - expected.decode(latents)
            largest = np.maximum(
                largest,
                [
                    np.abs(mean - expected_mean).max(),
                    np.abs(log_variance - expected_log_variance).max(),
                    np.abs(difference).max(),
                ],
            )
    parity = Parity(float(largest[0]), float(largest[1]), int(largest[2]))
    if not (
        parity.encoder_mean <= LATENT_TOLERANCE
        and parity.encoder_log_variance <= LATENT_TOLERANCE
        and parity.decoder_grey_levels <= GREY_LEVEL_TOLERANCE
    ):
        raise ParityError(
            f"the export differs from PyTorch by more than allowed: {parity}; nothing was written"
        )
    return parity


def draws(mean: Floats, log_variance: Floats, random: np.random.Generator) -> Floats:
    """One latent of each posterior."""
    draws: Floats = mean + np.exp(0.5 * log_variance) * random.standard_normal(mean.shape, np.float32)
    return draws
