"""Evaluation of reconstructions: how close they come, what they cost in bits, and how the latents lie."""

import math

import numpy as np
from numpy.typing import NDArray

from app.images.arrays import ImageArray
from app.images.quality import ms_ssim, ms_ssim_scales, psnr, ssim
from app.model.latents import posterior_draws
from model_training.backends.base import Backend
from model_training.evaluation import distribution_metrics
from model_training.evaluation.feature_network import FeatureNetwork

ACTIVE_NATS = 0.1
"""A latent unit whose mean KL is below this carries next to nothing."""

ACTIVE_VARIANCE = 0.01
"""Burda et al. 2016: a unit is active when its mean varies over the pictures by more than this."""

SEED = 0
"""Of all draws."""


def evaluate(backend: Backend, pixels: ImageArray) -> dict[str, float]:
    """Quality of the reconstructions from the mean, and use of the latent units.

    Args:
        pixels: (N, height, width, 3) uint8, pictures the model has not seen.

    Returns:
        pictures (N); psnr (dB), ssim and ms_ssim, means of the pictures' own, and ms_ssim_scales; bce of the
        8-bit reconstruction and kl, both in nats per picture; bits_per_dim and likelihood_sigma (see there);
        active_units (KL above ACTIVE_NATS) and active_units_burda.
    """
    mean, log_variance = backend.encode(pixels)
    reconstructions = backend.decode(mean)
    drawn = backend.decode(posterior_draws(mean, np.exp(0.5 * log_variance), SEED))
    units = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).mean(axis=0)
    kl = float(units.sum())
    sigma, bits = bits_per_dim(pixels, drawn, kl)
    return {
        "pictures": float(len(pixels)),
        "psnr": float(np.mean(psnr(pixels, reconstructions))),
        "ssim": float(np.mean(ssim(pixels, reconstructions))),
        "ms_ssim": float(np.mean(ms_ssim(pixels, reconstructions))),
        "ms_ssim_scales": float(ms_ssim_scales(backend.height, backend.width)),
        "bce": float(np.mean(binary_cross_entropy(pixels, reconstructions))),
        "kl": kl,
        "bits_per_dim": bits,
        "likelihood_sigma": sigma,
        "active_units": float((units > ACTIVE_NATS).sum()),
        "active_units_burda": float((mean.var(axis=0) > ACTIVE_VARIANCE).sum()),
    }


def bits_per_dim(pictures: ImageArray, reconstructions: ImageArray, kl: float) -> tuple[float, float]:
    """A bound on the bits a value (a pixel's red, green or blue) costs, and the likelihood's sigma.

    -ELBO / (dimensions ln 2), for values made continuous by uniform noise of one grey level (Theis et al.
    2016): the likelihood is N(reconstruction, sigma^2) for all values alike, with sigma^2 the mean squared
    error with that noise, e^2 + 1/12, of these very pictures; the cost is then log2(2 pi e sigma^2) / 2 and
    what the KL divergence adds. The model may have been trained for another likelihood.

    Args:
        pictures, reconstructions: (N, height, width, 3) uint8, the latter from draws of the posteriors.
        kl: mean KL(posterior || N(0, I)) in nats per picture.

    Returns:
        sigma in grey levels, and bits per dimension.
    """
    squares = (
        np.square(a.astype(np.float32) - b).mean() for a, b in zip(pictures, reconstructions, strict=True)
    )
    variance = sum(float(square) for square in squares) / len(pictures) + 1 / 12
    dimensions = pictures[0].size
    return math.sqrt(variance), 0.5 * math.log2(2 * math.pi * math.e * variance) + kl / dimensions / math.log(
        2
    )


def binary_cross_entropy(pictures: ImageArray, reconstructions: ImageArray) -> NDArray[np.float64]:
    """Nats per picture, summed over pixels and channels; both (N, height, width, 3) uint8.

    A value rounded to 0 or 255 stands for half a grey level's range; its middle keeps the logarithm finite.
    """
    table = np.clip(np.arange(256) / 255, 0.25 / 255, 1 - 0.25 / 255)
    on, off = np.log(table), np.log1p(-table)
    target = pictures / 255
    entropy = -(target * on[reconstructions] + (1 - target) * off[reconstructions])
    sums: NDArray[np.float64] = entropy.reshape(len(pictures), -1).sum(axis=1)
    return sums


def check_size(backend: Backend, held_out: ImageArray, training: ImageArray, network: FeatureNetwork) -> None:
    if (network.width, network.height) != (backend.width, backend.height):
        raise ValueError(
            f"the feature network takes pictures of {network.width} x {network.height} and the model makes"
            f" {backend.width} x {backend.height}: train a network of that size with fit-features"
        )
    least = max(backend.latent_dim, 2 * distribution_metrics.NEIGHBOURS + 1)
    if len(training) <= least or len(held_out) < 2:
        raise ValueError(f"more than {least} training and two held-out pictures are needed to judge samples")
