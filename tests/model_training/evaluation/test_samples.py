import copy
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from app.images.arrays import ImageArray
from app.model.prior import GaussianMixture, Prior
from model_training.backends.base import Floats
from model_training.backends.onnx_backend import OnnxBackend
from model_training.backends.torch_backend import TorchBackend
from model_training.evaluation import simclr
from model_training.evaluation.feature_network import FeatureNetwork
from model_training.evaluation.reconstructions import (
    binary_cross_entropy,
    bits_per_dim,
    evaluate_reconstructions,
)
from model_training.evaluation.samples import evaluate_samples
from model_training.export.model_folder import export_run


class Mirror:
    """A backend with two latent units, one of them dead, whose reconstructions are off by ten grey levels."""

    width, height, latent_dim = 24, 16, 2

    def __init__(self, pixels: ImageArray) -> None:
        self.pixels = pixels

    def encode(self, pixels: ImageArray) -> tuple[Floats, Floats]:
        mean = np.zeros((len(pixels), 2), dtype=np.float32)
        mean[:, 0] = np.arange(len(pixels)) % 2 * 4 - 2
        return mean, np.zeros_like(mean)

    def decode(self, latents: Floats) -> ImageArray:
        assert len(latents) == len(self.pixels)
        return np.where(self.pixels > 127, self.pixels - 10, self.pixels + 10).astype(np.uint8)


def test_figures_that_are_known(cars: ImageArray) -> None:
    metrics = evaluate_reconstructions(Mirror(cars), cars)
    assert metrics["pictures"] == len(cars)
    assert metrics["psnr"] == pytest.approx(20 * math.log10(255 / 10))
    assert metrics["kl"] == pytest.approx(2.0)
    assert metrics["active_units"] == metrics["active_units_burda"] == 1
    assert 0.5 < metrics["ssim"] < 1


def test_bits_per_dim_by_hand() -> None:
    pictures = np.full((2, 2, 3, 3), 100, dtype=np.uint8)
    sigma, bits = bits_per_dim(pictures, pictures + 4, kl=18 * math.log(2))
    assert sigma == pytest.approx(math.sqrt(16 + 1 / 12))
    noise = np.linspace(-0.5, 0.5, 100_001)
    density = np.exp(-((noise - 4) ** 2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
    assert bits == pytest.approx(1 - np.log2(density).mean(), rel=1e-6)


def test_cross_entropy_by_hand() -> None:
    black, white, grey = (np.full((1, 2, 2, 3), value, dtype=np.uint8) for value in (0, 255, 102))
    assert binary_cross_entropy(grey, grey)[0] == pytest.approx(
        -12 * (0.4 * math.log(0.4) + 0.6 * math.log(0.6))
    )
    assert binary_cross_entropy(black, black)[0] == pytest.approx(-12 * math.log(1 - 0.25 / 255))
    assert binary_cross_entropy(white, black)[0] == pytest.approx(-12 * math.log(0.25 / 255))


def test_torch_and_onnx_agree(run_folder: Path, other_cars: ImageArray, tmp_path: Path) -> None:
    export_run(run_folder, tmp_path / "1", name="cars", version=1, images=other_cars, data={}, metrics={})
    trained, served = (
        evaluate_reconstructions(TorchBackend(run_folder), other_cars),
        evaluate_reconstructions(OnnxBackend(tmp_path / "1"), other_cars),
    )
    assert trained == pytest.approx(served, rel=1e-3)  # export rounds weights to float16
    assert trained["psnr"] > 8


@pytest.fixture(scope="module")
def network(cars: ImageArray, tmp_path_factory: pytest.TempPathFactory) -> FeatureNetwork:
    recipe = dataclasses.replace(
        simclr.FeatureRecipe.load(simclr.DEFAULT_RECIPE),
        width=24,
        height=16,
        channels=(16, 32),
        features=8,
        epochs=4,
        batch_size=32,
    )
    path = tmp_path_factory.mktemp("features") / "features.onnx"
    simclr.export_network(simclr.fit(recipe, cars), recipe, path)
    return FeatureNetwork(path)


@pytest.fixture
def fitted(run_folder: Path, cars: ImageArray) -> Prior:
    """The Gaussian of the training pictures' latents."""
    mean, log_variance = TorchBackend(run_folder).encode(cars)
    covariance = np.cov(mean, rowvar=False) + np.diag(np.exp(log_variance).mean(axis=0))
    return GaussianMixture([1.0], mean.mean(axis=0)[None], np.linalg.cholesky(covariance)[None])


def test_samples_of_a_trained_model(
    run_folder: Path,
    cars: ImageArray,
    other_cars: ImageArray,
    network: FeatureNetwork,
    fitted: Prior,
    tmp_path: Path,
) -> None:
    export_run(run_folder, tmp_path / "1", name="cars", version=1, images=other_cars, data={}, metrics={})
    given = fitted, other_cars, cars, network
    figures = evaluate_samples(OnnxBackend(tmp_path / "1"), *given)
    assert figures == evaluate_samples(OnnxBackend(tmp_path / "1"), *given), "not all draws are seeded"
    assert figures == pytest.approx(evaluate_samples(TorchBackend(run_folder), *given), rel=0.1, abs=0.1)
    assert figures["samples"] == 80
    assert figures["frechet_pictures"] < figures["frechet_reconstructions"]
    assert figures["frechet_fitted_samples"] < figures["frechet_standard_samples"]
    assert figures["aggregate_kl_to_standard"] > figures["aggregate_total_correlation"] > 0
    assert figures["linear_length"] >= 1
    assert figures["spherical_largest_step"] >= 1
    without = evaluate_samples(OnnxBackend(tmp_path / "1"), None, *given[1:])
    assert {name for name in figures if "fitted" in name or "close" in name} == set(figures) - set(without)


class Copier(Mirror):
    """Reconstructs perfectly and, whatever latents it is given, else repeats pictures it was trained on."""

    def decode(self, latents: Floats) -> ImageArray:
        return self.pixels[np.arange(len(latents)) % len(self.pixels)]


def test_a_model_that_only_repeats_its_training_pictures_is_found_out(
    cars: ImageArray, other_cars: ImageArray, network: FeatureNetwork
) -> None:
    standard = GaussianMixture([1.0], np.zeros((1, 2)), np.eye(2)[None])
    figures = evaluate_samples(Copier(cars[:40, :, ::-1]), standard, other_cars, cars, network)
    assert figures["nearest_features_fitted_samples"] == pytest.approx(0, abs=1e-2)
    assert figures["nearest_pixels_fitted_samples"] == pytest.approx(0, abs=1e-2)


def test_a_network_for_pictures_of_another_size(
    run_folder: Path, cars: ImageArray, other_cars: ImageArray, network: FeatureNetwork
) -> None:
    backend = TorchBackend(run_folder)
    network = copy.copy(network)
    network.width = 96
    with pytest.raises(ValueError, match="takes pictures of 96 x 16 and the model makes 24 x 16"):
        evaluate_samples(backend, None, other_cars, cars, network)


def test_too_few_pictures_to_judge_samples(
    run_folder: Path, cars: ImageArray, other_cars: ImageArray, network: FeatureNetwork
) -> None:
    with pytest.raises(ValueError, match="more than 7 training and two held-out pictures are needed"):
        evaluate_samples(TorchBackend(run_folder), None, other_cars, cars[:7], network)
