"""The same quality figures for PyTorch weights and for exported ONNX graphs."""

import numpy as np
from numpy.typing import NDArray

from app.images import Pixels
from app.quality import psnr, ssim
from model_training.codec import Codec

ACTIVE_NATS = 0.1
"""A latent unit whose mean KL is below this carries next to nothing."""

ACTIVE_VARIANCE = 0.01
"""Burda et al. 2016: a unit is active when its mean varies over the pictures by more than this."""


def evaluate(codec: Codec, pixels: Pixels) -> dict[str, float]:
    """Quality of the reconstructions from the mean, and use of the latent units.

    Args:
        pixels: (N, height, width, 3) uint8, pictures the model has not seen.

    Returns:
        pictures (N); psnr (dB) and ssim, means of the pictures' own; bce of the 8-bit reconstruction and kl,
        both in nats per picture; active_units (KL above ACTIVE_NATS) and active_units_burda.
    """
    mean, log_variance = codec.encode(pixels)
    reconstructions = codec.decode(mean)
    kl = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance)
    return {
        "pictures": float(len(pixels)),
        "psnr": float(np.mean(psnr(pixels, reconstructions))),
        "ssim": float(np.mean(ssim(pixels, reconstructions))),
        "bce": float(np.mean(binary_cross_entropy(pixels, reconstructions))),
        "kl": float(kl.sum(axis=1).mean()),
        "active_units": float((kl.mean(axis=0) > ACTIVE_NATS).sum()),
        "active_units_burda": float((mean.var(axis=0) > ACTIVE_VARIANCE).sum()),
    }


def binary_cross_entropy(pictures: Pixels, reconstructions: Pixels) -> NDArray[np.float64]:
    """Nats per picture, summed over pixels and channels; both (N, height, width, 3) uint8.

    A value rounded to 0 or 255 stands for half a grey level's range; its middle keeps the logarithm finite.
    """
    table = np.clip(np.arange(256) / 255, 0.25 / 255, 1 - 0.25 / 255)
    on, off = np.log(table), np.log1p(-table)
    target = pictures / 255
    entropy = -(target * on[reconstructions] + (1 - target) * off[reconstructions])
    sums: NDArray[np.float64] = entropy.reshape(len(pictures), -1).sum(axis=1)
    return sums
