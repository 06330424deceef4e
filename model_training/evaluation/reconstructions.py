"""Evaluation of reconstructions: PSNR, SSIM, SSIMULACRA2, KL, bits per dimension, active latent units."""

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from ssimulacra2 import compute_ssimulacra2

from app.images.arrays import ImageArray
from app.images.quality import ms_ssim, ms_ssim_scales, psnr, ssim
from app.model.latents import posterior_draws
from model_training.backends.base import RefiningBackend

ACTIVE_NATS = 0.1
"""A latent unit whose mean KL is below this carries next to nothing."""

ACTIVE_VARIANCE = 0.01
"""Burda et al. 2016: a unit is active when its mean varies over the images by more than this."""

SEED = 0
"""Of all draws."""


def evaluate_reconstructions(backend: RefiningBackend, images: ImageArray) -> dict[str, float]:
    """Quality of the reconstructions from the mean, and use of the latent units.

    Args:
        images: (N, height, width, 3) uint8, images the model has not seen.

    Returns:
        pictures, which is N; psnr (dB), ssim, ms_ssim and ssimulacra2, means over the images, and
        ms_ssim_scales; bce of the 8-bit reconstruction and kl, both in nats per image; bits_per_dim and
        likelihood_sigma (see there); active_units (KL above ACTIVE_NATS) and active_units_burda. Where the
        model has a refiner, refined_psnr and refined_ssim of the refined means, and refined_least_gain, the
        dB by which the image that gains least does.
    """
    mean, log_variance = backend.encode(images)
    reconstructions = backend.decode(mean)
    drawn = backend.decode(posterior_draws(mean, np.exp(0.5 * log_variance), SEED))
    unit_kl = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).mean(axis=0)
    kl = float(unit_kl.sum())
    sigma, bits = bits_per_dim(images, drawn, kl)
    refined = backend.refine(images, mean)
    return {
        **({} if refined is mean else _refined_figures(images, reconstructions, backend.decode(refined))),
        "pictures": float(len(images)),
        "psnr": float(np.mean(psnr(images, reconstructions))),
        "ssim": float(np.mean(ssim(images, reconstructions))),
        "ms_ssim": float(np.mean(ms_ssim(images, reconstructions))),
        "ms_ssim_scales": float(ms_ssim_scales(backend.height, backend.width)),
        "ssimulacra2": float(np.mean(ssimulacra2(images, reconstructions))),
        "bce": float(np.mean(binary_cross_entropy(images, reconstructions))),
        "kl": kl,
        "bits_per_dim": bits,
        "likelihood_sigma": sigma,
        "active_units": float((unit_kl > ACTIVE_NATS).sum()),
        "active_units_burda": float((mean.var(axis=0) > ACTIVE_VARIANCE).sum()),
    }


def _refined_figures(images: ImageArray, before: ImageArray, after: ImageArray) -> dict[str, float]:
    quality = psnr(images, after)
    return {
        "refined_psnr": float(np.mean(quality)),
        "refined_ssim": float(np.mean(ssim(images, after))),
        "refined_least_gain": float(np.min(quality - psnr(images, before))),
    }


def ssimulacra2(images: ImageArray, reconstructions: ImageArray) -> NDArray[np.float64]:
    """SSIMULACRA2 of each image: 100 where they are the same, below 0 where nothing fine is left.

    An alarm rather than an aim: it was fitted to compressed pictures that are far larger and far better, and
    the sides of these allow four of its six scales. It falls where a decoder draws patterns that are not
    there, which the features of a network may reward.

    Args:
        images, reconstructions: (N, height, width, 3) uint8, with sides of 8 pixels at least.
    """
    pairs = zip(images, reconstructions, strict=True)
    return np.array([compute_ssimulacra2(_bitmap(a), _bitmap(b)) for a, b in pairs], dtype=np.float64)


def bits_per_dim(images: ImageArray, reconstructions: ImageArray, kl: float) -> tuple[float, float]:
    """A bound on the bits a value (a pixel's red, green or blue) costs, and the likelihood's sigma.

    -ELBO / (dimensions ln 2), for values made continuous by uniform noise of one grey level (Theis et al.
    2016): the likelihood is N(reconstruction, sigma^2) for all values alike, with sigma^2 the mean squared
    error with that noise, e^2 + 1/12, of these very images; the cost is then log2(2 pi e sigma^2) / 2 and
    what the KL divergence adds. The model may have been trained for another likelihood.

    Args:
        images, reconstructions: (N, height, width, 3) uint8, the latter from draws of the posteriors.
        kl: mean KL(posterior || N(0, I)) in nats per image.

    Returns:
        sigma in grey levels, and bits per dimension.
    """
    squares = (
        np.square(a.astype(np.float32) - b).mean() for a, b in zip(images, reconstructions, strict=True)
    )
    variance = sum(float(square) for square in squares) / len(images) + 1 / 12
    dimensions = images[0].size
    bits = 0.5 * math.log2(2 * math.pi * math.e * variance) + kl / dimensions / math.log(2)
    return math.sqrt(variance), bits


def binary_cross_entropy(images: ImageArray, reconstructions: ImageArray) -> NDArray[np.float64]:
    """Nats per image, summed over pixels and channels; both (N, height, width, 3) uint8.

    A value rounded to 0 or 255 stands for half a grey level's range; its middle keeps the logarithm finite.
    """
    table = np.clip(np.arange(256) / 255, 0.25 / 255, 1 - 0.25 / 255)
    on, off = np.log(table), np.log1p(-table)
    target = images / 255
    entropy = -(target * on[reconstructions] + (1 - target) * off[reconstructions])
    sums: NDArray[np.float64] = entropy.reshape(len(images), -1).sum(axis=1)
    return sums


def _bitmap(image: ImageArray) -> io.BytesIO:
    """A file in memory, which is what the metric's package reads."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "bmp")
    return file
