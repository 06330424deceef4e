from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from app.images.arrays import ImageArray
from app.images.quality import EXPONENTS, IDENTICAL_PSNR, ms_ssim, ms_ssim_scales, psnr, ssim
from tests.tiny_model import random_images


def slow_ssim(original: ImageArray, image: ImageArray) -> float:
    """Wang et al. 2004, as the formulas stand there, on the grey values of two (H, W, 3) images."""
    return slow_terms(*(array.astype(np.float64) @ [0.299, 0.587, 0.114] for array in (original, image)))[0]


def slow_ms_ssim(original: ImageArray, image: ImageArray) -> float:
    """Wang et al. 2003 on two scales."""
    x, y = (array.astype(np.float64) @ [0.299, 0.587, 0.114] for array in (original, image))
    _, fine = slow_terms(x, y)
    coarse, _ = slow_terms(
        *((a[:-1:2, :-1:2] + a[1::2, :-1:2] + a[:-1:2, 1::2] + a[1::2, 1::2]) / 4 for a in (x, y))
    )
    total = EXPONENTS[0] + EXPONENTS[1]
    return float(fine ** (EXPONENTS[0] / total) * coarse ** (EXPONENTS[1] / total))


def slow_terms(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """SSIM and its part without luminance, of two (H, W) arrays."""
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    window /= window.sum()
    scores, structures = [], []
    for top in range(x.shape[0] - 10):
        for left in range(x.shape[1] - 10):
            a, b = (array[top : top + 11, left : left + 11] for array in (x, y))
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            variance_a, variance_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
            covariance = (window * (a - mean_a) * (b - mean_b)).sum()
            c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
            luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
            structures.append((2 * covariance + c2) / (variance_a + variance_b + c2))
            scores.append(luminance * structures[-1])
    return float(np.mean(scores)), float(np.mean(structures))


def blurred(images: ImageArray) -> ImageArray:
    shifted = [np.roll(images.astype(np.float64), shift, axis=1) for shift in (-1, 0, 1)]
    return np.array(sum(shifted) / 3, dtype=np.uint8)


def test_psnr_follows_the_mean_square_error() -> None:
    originals = np.zeros((2, 16, 24, 3), dtype=np.uint8)
    images = originals.copy()
    images[0] += 1
    images[1] += 255
    np.testing.assert_allclose(psnr(originals, images), [20 * np.log10(255), 0], atol=1e-9)
    np.testing.assert_array_equal(psnr(images, originals), psnr(originals, images))


def test_psnr_of_identical_images_is_finite_and_above_all_others() -> None:
    originals = random_images(1)
    images = originals.copy()
    images[0, 0, 0, 0] ^= 1
    assert psnr(originals, originals).tolist() == [IDENTICAL_PSNR]
    assert psnr(originals, images)[0] < IDENTICAL_PSNR


def test_ssim_agrees_with_the_formulas() -> None:
    originals = random_images(3)
    images = blurred(originals)
    images[2] = random_images(1, seed=9)[0]
    expected = [slow_ssim(original, image) for original, image in zip(originals, images, strict=True)]
    np.testing.assert_allclose(ssim(originals, images), expected, atol=1e-4)


def test_ssim_of_identical_images_is_1() -> None:
    flat = np.full((1, 16, 24, 3), 255, dtype=np.uint8)
    originals = np.concatenate((random_images(2), flat, 0 * flat))
    np.testing.assert_allclose(ssim(originals, originals), 1, atol=1e-6)


def test_ssim_of_a_negative_is_negative() -> None:
    images = random_images(1)
    assert ssim(images, 255 - images)[0] < -0.5


def test_ms_ssim_agrees_with_the_formulas() -> None:
    originals = random_images(2).repeat(2, axis=1).repeat(2, axis=2)
    images = blurred(originals)
    expected = [slow_ms_ssim(*pair) for pair in zip(originals, images, strict=True)]
    np.testing.assert_allclose(ms_ssim(originals, images), expected, atol=1e-4)
    np.testing.assert_allclose(ms_ssim(originals, originals), 1, atol=1e-6)


def test_ms_ssim_has_as_many_scales_as_fit() -> None:
    assert [ms_ssim_scales(*size) for size in ((16, 24), (64, 96), (96, 64), (176, 500))] == [1, 3, 3, 5]
    originals = random_images(1)
    assert ms_ssim(originals, blurred(originals))[0] == pytest.approx(ssim(originals, blurred(originals))[0])
    assert ms_ssim(originals, 255 - originals).tolist() == [0]


@pytest.mark.parametrize("measure", [psnr, ssim, ms_ssim])
def test_each_image_is_measured_by_itself(
    measure: Callable[[ImageArray, ImageArray], NDArray[np.float64]],
) -> None:
    originals, images = random_images(4), blurred(random_images(4))
    alone = [measure(originals[[row]], images[[row]])[0] for row in range(4)]
    np.testing.assert_allclose(measure(originals, images), alone, rtol=1e-5)
