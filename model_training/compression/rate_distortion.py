"""Rate-distortion curve of compressed latents, for evaluate and plot: bytes against PSNR and SSIM."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.codes.compressor import Compressor, Statistics
from app.images.arrays import ImageArray
from app.images.quality import psnr, ssim
from model_training.backends.base import Backend, Floats

QUANTISER_STEPS = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)
"""Worth comparing, from next to no loss to next to no bytes."""


@dataclass(frozen=True)
class Point:
    """One setting of a way to compress, on the same images as all others; means over the images."""

    setting: str
    bytes: float
    psnr: float
    """dB."""
    ssim: float


@dataclass(frozen=True)
class LatentPoint(Point):
    """The latents' own point at one quantiser step."""

    step: float
    largest: int
    """Bytes of the image that takes most."""
    lost: float
    """dB of PSNR below the reconstruction from the latent as it is."""


def rate_distortion(
    backend: Backend,
    statistics: Statistics,
    images: ImageArray,
    latents: Floats,
    quantiser_steps: Sequence[float],
) -> list[LatentPoint]:
    """Compress latents, decompress the bytes and measure, for each quantiser step.

    Args:
        statistics: of the training set.
        images: (N, height, width, 3) uint8, images the model has not seen.
        latents: (N, L) float32, what is to be compressed for each of them.

    Returns:
        bytes are of the latent alone: the model, the frequencies and the step are known to both ends.
    """
    unquantised = float(np.mean(psnr(images, backend.decode(latents))))
    points = []
    for step in quantiser_steps:
        compressor = Compressor.fit(statistics, step)
        files = [compressor.compress(latent) for latent in latents]
        decoded = backend.decode(np.stack([compressor.decompress(file) for file in files]))
        sizes = [len(file) for file in files]
        decibels = float(np.mean(psnr(images, decoded)))
        points.append(
            LatentPoint(
                setting=f"step {step:g}",
                bytes=float(np.mean(sizes)),
                psnr=decibels,
                ssim=float(np.mean(ssim(images, decoded))),
                step=step,
                largest=max(sizes),
                lost=unquantised - decibels,
            )
        )
    return points
