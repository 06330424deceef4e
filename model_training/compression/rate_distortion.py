"""Rate and distortion of latents: bytes against quality."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.codes.compressor import Compressor, Statistics
from app.images.arrays import ImageArray
from app.images.quality import psnr, ssim
from model_training.backends.base import Backend, Floats

STEPS = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)
"""Quantiser steps worth comparing, from next to no loss to next to no bytes."""


@dataclass(frozen=True)
class Point:
    """One setting of a way to compress, on the same pictures as all others; means over the pictures."""

    setting: str
    bytes: float
    psnr: float
    """dB."""
    ssim: float


@dataclass(frozen=True)
class LatentPoint(Point):
    """One quantiser step."""

    step: float
    largest: int
    """Bytes of the picture that takes most."""
    lost: float
    """dB of PSNR below the reconstruction from the latent as it is."""


def rate_distortion(
    backend: Backend, statistics: Statistics, pixels: ImageArray, latents: Floats, steps: Sequence[float]
) -> list[LatentPoint]:
    """Compress latents, decompress the bytes and measure, for each quantiser step.

    Args:
        statistics: of the training set.
        pixels: (N, height, width, 3) uint8, pictures the model has not seen.
        latents: (N, L) float32, what is to be compressed for each of them.

    Returns:
        bytes are of the latent alone: the model, the frequencies and the step are known to both ends.
    """
    unquantised = float(np.mean(psnr(pixels, backend.decode(latents))))
    points = []
    for step in steps:
        compressor = Compressor.fit(statistics, step)
        files = [compressor.compress(latent) for latent in latents]
        pictures = backend.decode(np.stack([compressor.decompress(file) for file in files]))
        sizes = [len(file) for file in files]
        decibels = float(np.mean(psnr(pixels, pictures)))
        points.append(
            LatentPoint(
                setting=f"step {step:g}",
                bytes=float(np.mean(sizes)),
                psnr=decibels,
                ssim=float(np.mean(ssim(pixels, pictures))),
                step=step,
                largest=max(sizes),
                lost=unquantised - decibels,
            )
        )
    return points
