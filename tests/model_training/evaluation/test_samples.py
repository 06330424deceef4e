"""Evaluation of samples: what it tells apart, and what it needs."""

import copy
from pathlib import Path

import numpy as np
import pytest

from app.images.arrays import ImageArray
from app.model.prior import GaussianMixture, Prior
from model_training.backends.base import Floats
from model_training.backends.onnx_backend import OnnxBackend
from model_training.backends.torch_backend import TorchBackend
from model_training.evaluation.feature_network import FeatureNetwork
from model_training.evaluation.samples import evaluate_samples
from tests.model_training.evaluation.conftest import Mirror


@pytest.fixture
def fitted(finished_run: Path, cars: ImageArray) -> Prior:
    """The Gaussian of the training images' latents."""
    mean, log_variance = TorchBackend(finished_run).encode(cars)
    covariance = np.cov(mean, rowvar=False) + np.diag(np.exp(log_variance).mean(axis=0))
    return GaussianMixture([1.0], mean.mean(axis=0)[None], np.linalg.cholesky(covariance)[None])


def test_fitted_samples_are_nearer_to_photographs_than_standard_ones(
    finished_run: Path,
    exported_model: Path,
    cars: ImageArray,
    other_cars: ImageArray,
    network: FeatureNetwork,
    fitted: Prior,
) -> None:
    given = fitted, other_cars, cars, network
    figures = evaluate_samples(OnnxBackend(exported_model), *given)
    assert figures == evaluate_samples(OnnxBackend(exported_model), *given), "not all draws are seeded"
    assert figures == pytest.approx(evaluate_samples(TorchBackend(finished_run), *given), rel=0.1, abs=0.1)
    assert figures["samples"] == 80
    assert figures["frechet_pictures"] < figures["frechet_reconstructions"]
    assert figures["frechet_fitted_samples"] < figures["frechet_standard_samples"]
    assert figures["aggregate_kl_to_standard"] > figures["aggregate_total_correlation"] > 0
    assert figures["linear_length"] >= 1
    assert figures["spherical_largest_step"] >= 1
    without = evaluate_samples(OnnxBackend(exported_model), None, *given[1:])
    assert {name for name in figures if "fitted" in name or "close" in name} == set(figures) - set(without)


def test_a_second_network_judges_likeness_again_and_changes_nothing_else(
    exported_model: Path,
    cars: ImageArray,
    other_cars: ImageArray,
    network: FeatureNetwork,
    second_network: FeatureNetwork,
    fitted: Prior,
) -> None:
    given = OnnxBackend(exported_model), fitted, other_cars, cars
    alone, by_the_second = evaluate_samples(*given, network), evaluate_samples(*given, second_network)
    both = evaluate_samples(*given, network, second_network)
    likeness = {
        name for name in alone if name.removeprefix("prior_").startswith(("frechet", "precision", "recall"))
    }
    assert len(likeness) == 20
    second = {f"second_{name}": by_the_second[name] for name in likeness}
    assert both == pytest.approx({**alone, **second})
    assert all(both[f"second_{name}"] != both[name] for name in likeness if "frechet" in name)


class Copier(Mirror):
    """Reconstructs perfectly and, whatever latents it is given, else repeats images it was trained on."""

    def decode(self, latents: Floats) -> ImageArray:
        return self.images[np.arange(len(latents)) % len(self.images)]


def test_a_model_that_only_repeats_its_training_images_is_found_out(
    cars: ImageArray, other_cars: ImageArray, network: FeatureNetwork
) -> None:
    standard = GaussianMixture([1.0], np.zeros((1, 2)), np.eye(2)[None])
    figures = evaluate_samples(Copier(cars[:40, :, ::-1]), standard, other_cars, cars, network)
    assert figures["nearest_features_fitted_samples"] == pytest.approx(0, abs=1e-2)
    assert figures["nearest_pixels_fitted_samples"] == pytest.approx(0, abs=1e-2)


def test_a_network_for_images_of_another_size_is_refused(
    finished_run: Path, cars: ImageArray, other_cars: ImageArray, network: FeatureNetwork
) -> None:
    backend = TorchBackend(finished_run)
    wider = copy.copy(network)
    wider.width = 96
    for networks in ((wider,), (network, wider)):
        with pytest.raises(ValueError, match="takes pictures of 96 x 16 and the model makes 24 x 16"):
            evaluate_samples(backend, None, other_cars, cars, *networks)


def test_too_few_images_to_judge_samples_are_refused(
    finished_run: Path, cars: ImageArray, other_cars: ImageArray, network: FeatureNetwork
) -> None:
    with pytest.raises(ValueError, match="more than 7 training and two held-out pictures are needed"):
        evaluate_samples(TorchBackend(finished_run), None, other_cars, cars[:7], network)
