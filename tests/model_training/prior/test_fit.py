import dataclasses
from pathlib import Path

import numpy as np
import pytest

from app.images.arrays import ImageArray
from app.model.prior import GeneratorPrior, read_prior
from app.model.prior_networks import CoarseGenerator, FineGenerator
from model_training.backends.base import Backend, Floats
from model_training.prior.fit import fit_gaussian, fit_prior, posteriors, save_prior, whitened_targets
from model_training.prior_recipe import PriorConfig
from tests.model_training.conftest import SMALL_PRIOR
from tests.model_training.prior.conftest import LinearBackend, narrow_posteriors, prior_of_coarse_flow

MIXING = np.array([[1.0, 0, 0], [0.8, 0.6, 0], [-0.5, 0.2, 0.3]])
SHORT = dataclasses.replace(SMALL_PRIOR, steps=2, copies=1)


def correlated_latents() -> np.ndarray:
    latents: np.ndarray = np.random.default_rng(5).standard_normal((4000, 3)) @ MIXING.T + [1, 2, 3]
    return latents


def test_correlated_latents_are_found_again(tmp_path: Path) -> None:
    drawn = prior_of_coarse_flow(correlated_latents(), tmp_path / "prior.npz", steps=1).draw(4000, seed=1)
    np.testing.assert_allclose(drawn.mean(axis=0), [1, 2, 3], atol=0.1)
    np.testing.assert_allclose(np.cov(drawn.T), MIXING @ MIXING.T, atol=0.1)


def test_too_few_latents_are_refused() -> None:
    latents = np.random.default_rng(0).standard_normal((3, 5))
    with pytest.raises(ValueError, match="3 latents are too few"):
        fit_gaussian(narrow_posteriors(latents), 1e-3, 0)


def test_shrinkage_is_added_to_each_variance() -> None:
    encoded = narrow_posteriors(correlated_latents())
    covariances = [
        gaussian.cholesky @ gaussian.cholesky.T
        for gaussian in (fit_gaussian(encoded, shrinkage, 0) for shrinkage in (0.0, 0.5))
    ]
    np.testing.assert_allclose(covariances[1] - covariances[0], 0.5 * np.eye(3), atol=1e-9)


def test_targets_are_white_and_weigh_more_where_posteriors_are_narrow() -> None:
    encoded = narrow_posteriors(correlated_latents())
    encoded.std[:, 2] = 0.1
    targets = whitened_targets(encoded, fit_gaussian(encoded, 0.0, 0))
    np.testing.assert_allclose(np.cov(targets.means.numpy().T), np.eye(3), atol=0.15)
    np.testing.assert_allclose(targets.weight.numpy() / targets.weight[2].item(), [10, 10, 1], rtol=1e-3)
    assert targets.weight.mean().item() == pytest.approx(1)


def test_posteriors_are_of_the_images_their_mirror_images_and_changed_copies() -> None:
    class LeftEdge(LinearBackend):
        def encode(self, images: ImageArray) -> tuple[Floats, Floats]:
            left = images[:, :, 0].mean(axis=(1, 2)).astype(np.float32)
            mean = np.stack([left, left], axis=1)
            return mean, np.full_like(mean, np.log(4.0))

    images = np.zeros((5, 16, 24, 3), dtype=np.uint8)
    images[:, :, :12] = 200
    encoded = posteriors(LeftEdge(), images, copies=2, strength=0.5, seed=0)
    assert encoded.mean.shape == (20, 2)
    np.testing.assert_allclose(encoded.std, 2)
    np.testing.assert_array_equal(encoded.mean[:5], 200)
    np.testing.assert_array_equal(encoded.mean[5:10], 0)
    assert np.abs(encoded.mean[10:15] - 200).max() < 30
    assert encoded.mean[10:15, 0].std() > 0.1
    assert encoded.mean[15:].max() < 30


def test_a_prior_of_many_coordinates_has_a_fine_flow(cars: ImageArray, tmp_path: Path) -> None:
    backend: Backend = LinearBackend()
    fitted = fit_prior(backend, cars, cars[:40], SHORT)
    generators = CoarseGenerator(fitted.coarse), FineGenerator(fitted.fine)
    expected = GeneratorPrior(fitted.gaussian.mean, fitted.gaussian.cholesky, *generators)
    path = tmp_path / "prior.npz"
    save_prior(fitted, path)
    read = read_prior(path.read_bytes(), 70)
    assert isinstance(read, GeneratorPrior)
    assert read.fine is not None
    np.testing.assert_allclose(read.draw(5, 1), expected.draw(5, 1), atol=0.05)


def test_a_coarse_flow_of_all_coordinates_leaves_nothing_to_a_fine_one(cars: ImageArray) -> None:
    config = dataclasses.replace(SHORT, coarse=dataclasses.replace(SHORT.coarse, coordinates=70))
    assert fit_prior(LinearBackend(), cars, cars[:40], config).fine == {}


def test_the_same_configuration_fits_the_same_prior_and_another_seed_another(cars: ImageArray) -> None:
    first, again, other = (
        fit_prior(LinearBackend(), cars, cars[:40], dataclasses.replace(SHORT, seed=seed))
        for seed in (0, 0, 1)
    )
    for name in ("coarse", "fine"):
        arrays, same, different = (getattr(prior, name) for prior in (first, again, other))
        for key, values in arrays.items():
            np.testing.assert_array_equal(values, same[key])
        assert any(not np.array_equal(values, different[key]) for key, values in arrays.items())


def test_a_saved_prior_says_what_it_was_fitted_by(cars: ImageArray, tmp_path: Path) -> None:
    save_prior(fit_prior(LinearBackend(), cars, cars[:40], SHORT), tmp_path / "prior.npz")
    assert PriorConfig.recorded(tmp_path / "prior.npz") == SHORT
