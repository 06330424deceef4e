"""Quality of images against their originals: PSNR, SSIM and MS-SSIM, per image."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from app.images.arrays import ImageArray

Floats = NDArray[np.float32]
Ratio = tuple[Floats, Floats]

PEAK = 255.0
IDENTICAL_PSNR = 100.0
"""dB given to identical images, whose PSNR is infinite and which JSON could not say."""

WINDOW, SIGMA = 11, 1.5
C1, C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
"""The window and the constants of Wang et al. 2004."""

EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the scales of MS-SSIM, the finest first (Wang et al. 2003)."""

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of red, green and blue (ITU-R BT.601)."""


def psnr(originals: ImageArray, images: ImageArray) -> NDArray[np.float64]:
    """Peak signal-to-noise ratio in dB, (N,), of (N, H, W, 3) images; at most IDENTICAL_PSNR."""
    difference = originals.astype(np.float32) - images
    mean_square = np.mean(difference * difference, axis=(1, 2, 3), dtype=np.float64)
    lowest = PEAK**2 / 10 ** (IDENTICAL_PSNR / 10)
    decibels: NDArray[np.float64] = 10 * np.log10(PEAK**2 / np.maximum(mean_square, lowest))
    return decibels


def ssim(originals: ImageArray, images: ImageArray) -> NDArray[np.float64]:
    """Structural similarity, (N,), of (N, H, W, 3) images of at least 11 x 11 pixels.

    As in Wang et al. 2004: on luma, with a Gaussian window of 11 x 11 and sigma 1.5, averaged over the places
    where the whole window lies inside the image.
    """
    luminance, structure = _terms(originals @ LUMA, images @ LUMA)
    return _mean_ratio(luminance[0] * structure[0], luminance[1] * structure[1])


def ms_ssim(originals: ImageArray, images: ImageArray) -> NDArray[np.float64]:
    """Multi-scale structural similarity, (N,), of (N, H, W, 3) images of at least 11 x 11 pixels.

    As in Wang et al. 2003, on luma, over as many of the five scales as the window fits into
    (`ms_ssim_scales`), whose exponents are scaled to the sum 1. Opposite structure at any scale makes it 0.
    """
    exponents = np.array(EXPONENTS[: ms_ssim_scales(*originals.shape[1:3])])
    exponents /= exponents.sum()
    x, y = originals @ LUMA, images @ LUMA
    scores = np.ones(len(originals))
    for scale, exponent in enumerate(exponents):
        if scale:
            x, y = _halve(x), _halve(y)
        luminance, structure = _terms(x, y)
        if scale == len(exponents) - 1:
            structure = luminance[0] * structure[0], luminance[1] * structure[1]
        scores *= np.maximum(_mean_ratio(*structure), 0) ** exponent
    return scores


def ms_ssim_scales(height: int, width: int) -> int:
    """How many scales MS-SSIM has for images of this size: 3 for 64 x 96, the full 5 from 176 x 176 on."""
    return max(1, min(len(EXPONENTS), (min(height, width) // WINDOW).bit_length()))


def _terms(x: Floats, y: Floats) -> tuple[Ratio, Ratio]:
    """Likeness of (N, H, W) luma in luminance, and in contrast and structure: numerators and denominators."""
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = _blur(np.stack((x, y, x * x, y * y, x * y)))
    product, squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    covariance, variances = mean_xy - product, mean_xx + mean_yy - squares
    return (2 * product + C1, squares + C1), (2 * covariance + C2, variances + C2)


def _mean_ratio(numerators: Floats, denominators: Floats) -> NDArray[np.float64]:
    means: NDArray[np.float64] = np.mean(numerators / denominators, axis=(1, 2), dtype=np.float64)
    return means


def _halve(maps: Floats) -> Floats:
    """(N, H, W) at half the size, each value the mean of 2 x 2; an odd last row or column is left out."""
    count, height, width = maps.shape
    even = maps[:, : height // 2 * 2, : width // 2 * 2]
    halved: Floats = even.reshape(count, height // 2, 2, width // 2, 2).mean(axis=(2, 4))
    return halved


def _blur(maps: Floats) -> Floats:
    """Filter the last two axes with the window, where it fits; products with band matrices are quickest."""
    height, width = maps.shape[-2:]
    blurred: Floats = _band(height) @ (maps @ _band(width).T)
    return blurred


@lru_cache(maxsize=8)
def _band(size: int) -> Floats:
    """(size - 10, size): each row holds the window's weights, one place further to the right."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * SIGMA**2))
    band = np.zeros((size - WINDOW + 1, size), dtype=np.float32)
    for row in range(len(band)):
        band[row, row : row + WINDOW] = weights / weights.sum()
    return band
