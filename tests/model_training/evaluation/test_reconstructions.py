"""Evaluation of reconstructions, against figures that are known or computed by hand."""

import math
from pathlib import Path

import numpy as np
import pytest

from app.images.arrays import ImageArray
from model_training.backends.onnx_backend import OnnxBackend
from model_training.backends.torch_backend import TorchBackend
from model_training.data.synthetic import draw_cars
from model_training.evaluation.reconstructions import (
    binary_cross_entropy,
    bits_per_dim,
    evaluate_reconstructions,
    ssimulacra2,
)
from tests.model_training.evaluation.conftest import Mirror, RefiningMirror


def test_reconstructions_off_by_ten_grey_levels_have_the_figures_that_follow(cars: ImageArray) -> None:
    figures = evaluate_reconstructions(Mirror(cars), cars)
    assert figures["pictures"] == len(cars)
    assert figures["psnr"] == pytest.approx(20 * math.log10(255 / 10))
    assert figures["kl"] == pytest.approx(2.0)
    assert figures["active_units"] == figures["active_units_burda"] == 1
    assert 0.5 < figures["ssim"] < 1


def test_what_refining_gains_is_measured_where_there_is_a_refiner(cars: ImageArray) -> None:
    figures = evaluate_reconstructions(RefiningMirror(cars), cars)
    assert figures["psnr"] == pytest.approx(20 * math.log10(255 / 10))
    assert figures["refined_psnr"] == pytest.approx(20 * math.log10(255 / 5))
    assert figures["refined_least_gain"] == pytest.approx(20 * math.log10(2))
    assert figures["ssim"] < figures["refined_ssim"] < 1
    assert not [name for name in evaluate_reconstructions(Mirror(cars), cars) if "refined" in name]


def test_ssimulacra2_is_100_of_the_same_and_lower_for_stripes_than_for_as_large_an_offset() -> None:
    images = draw_cars(3, 96, 64, seed=4) // 2 + 64
    signs = np.where(np.arange(96) // 4 % 2 == 0, 1, -1)[:, None]
    same = ssimulacra2(images, images)
    striped = ssimulacra2(images, (images + 8 * signs).astype(np.uint8))
    lighter = ssimulacra2(images, images + 8)
    np.testing.assert_array_equal(same, [100, 100, 100])
    assert (striped < lighter - 15).all()
    assert (lighter < 100).all()


def test_bits_per_dim_are_the_mean_code_length_of_noisy_values_and_the_kl() -> None:
    images = np.full((2, 2, 3, 3), 100, dtype=np.uint8)
    sigma, bits = bits_per_dim(images, images + 4, kl=18 * math.log(2))
    assert sigma == pytest.approx(math.sqrt(16 + 1 / 12))
    noise = np.linspace(-0.5, 0.5, 100_001)
    density = np.exp(-((noise - 4) ** 2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
    assert bits == pytest.approx(1 - np.log2(density).mean(), rel=1e-6)


def test_cross_entropy_sums_over_values_and_stays_finite_at_black_and_white() -> None:
    black, white, grey = (np.full((1, 2, 2, 3), value, dtype=np.uint8) for value in (0, 255, 102))
    assert binary_cross_entropy(grey, grey)[0] == pytest.approx(
        -12 * (0.4 * math.log(0.4) + 0.6 * math.log(0.6))
    )
    assert binary_cross_entropy(black, black)[0] == pytest.approx(-12 * math.log(1 - 0.25 / 255))
    assert binary_cross_entropy(white, black)[0] == pytest.approx(-12 * math.log(0.25 / 255))


def test_torch_and_onnx_are_measured_alike(
    finished_run: Path, exported_model: Path, other_cars: ImageArray
) -> None:
    trained, served = (
        evaluate_reconstructions(TorchBackend(finished_run), other_cars),
        evaluate_reconstructions(OnnxBackend(exported_model), other_cars),
    )
    assert trained == pytest.approx(served, rel=1e-3)  # export rounds weights to float16
    assert trained["psnr"] > 8
