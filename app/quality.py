"""How close pictures are to their originals: PSNR and SSIM, per picture."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

PEAK = 255.0
IDENTICAL_PSNR = 100.0
"""dB given to identical pictures, whose PSNR is infinite and which JSON could not say."""

WINDOW, SIGMA = 11, 1.5
C1, C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
"""The window and the constants of Wang et al. 2004."""

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of red, green and blue (ITU-R BT.601)."""


def psnr(originals: Pixels, pictures: Pixels) -> NDArray[np.float64]:
    """Peak signal-to-noise ratio in dB, (N,), of (N, H, W, 3) pictures; at most IDENTICAL_PSNR."""
    difference = originals.astype(np.float32) - pictures
    mean_square = np.mean(difference * difference, axis=(1, 2, 3), dtype=np.float64)
    lowest = PEAK**2 / 10 ** (IDENTICAL_PSNR / 10)
    decibels: NDArray[np.float64] = 10 * np.log10(PEAK**2 / np.maximum(mean_square, lowest))
    return decibels


def ssim(originals: Pixels, pictures: Pixels) -> NDArray[np.float64]:
    """Structural similarity, (N,), of (N, H, W, 3) pictures of at least 11 x 11 pixels.

    As in Wang et al. 2004: on luma, with a Gaussian window of 11 x 11 and sigma 1.5, averaged over the places
    where the whole window lies inside the picture.
    """
    x, y = originals @ LUMA, pictures @ LUMA
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = _blur(np.stack((x, y, x * x, y * y, x * y)))
    product, squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    covariance, variances = mean_xy - product, mean_xx + mean_yy - squares
    similarity = ((2 * product + C1) * (2 * covariance + C2)) / ((squares + C1) * (variances + C2))
    scores: NDArray[np.float64] = np.mean(similarity, axis=(1, 2), dtype=np.float64)
    return scores


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
