from pathlib import Path

import numpy as np
import pytest
import torch

from app.model.prior import Prior, read_prior
from app.model.prior_networks import CoarseGenerator
from model_training.backends.base import Floats
from model_training.prior import fit
from model_training.prior.coarse_flow import Student, fit_flow
from model_training.prior.fit import Posteriors
from tests.model_training.evaluation.test_reconstructions import Mirror

RANDOM = np.random.default_rng(0)
MIXING = np.array([[1.0, 0, 0], [0.8, 0.6, 0], [-0.5, 0.2, 0.3]])


pytestmark = pytest.mark.usefixtures("small_flow")


def certain(latents: np.ndarray) -> Posteriors:
    mean = latents.astype(np.float32)
    return Posteriors(mean, np.full_like(mean, 0.01))


def fitted(latents: np.ndarray, path: Path, steps: int) -> Prior:
    encoded = certain(latents)
    gaussian = fit.fit_gaussian(encoded)
    targets = fit.targets(encoded, gaussian)
    picture = torch.eye(latents.shape[1])[:, None, :, None]
    fit.save(gaussian, fit_flow(targets, targets, picture, steps), {}, path)
    return read_prior(path.read_bytes(), latents.shape[1])


def test_correlated_latents_are_found_again(tmp_path: Path) -> None:
    latents = RANDOM.standard_normal((4000, 3)) @ MIXING.T + [1, 2, 3]
    drawn = fitted(latents, tmp_path / "prior.npz", steps=1).draw(4000, seed=1)
    np.testing.assert_allclose(drawn.mean(axis=0), [1, 2, 3], atol=0.1)
    np.testing.assert_allclose(np.cov(drawn.T), MIXING @ MIXING.T, atol=0.1)


def test_a_flow_finds_what_no_gaussian_can_be(tmp_path: Path) -> None:
    angles = RANDOM.uniform(0, 2 * np.pi, 4000)
    ring = np.stack([3 * np.cos(angles), np.sin(angles)], axis=1)

    def inside(points: np.ndarray) -> float:
        return float((np.hypot(points[:, 0] / 3, points[:, 1]) < 0.6).mean())

    draws = [fitted(ring, tmp_path / "prior.npz", steps).draw(1000, seed=1) for steps in (1, 800)]
    assert inside(draws[0]) > 0.2
    assert inside(draws[1]) < 0.7 * inside(draws[0])
    np.testing.assert_allclose(np.cov(draws[1].T), np.cov(ring.T), atol=0.6)


def test_the_flow_that_is_served_is_the_one_that_was_trained() -> None:
    torch.manual_seed(0)
    network = Student(5, 32, 2)
    torch.nn.init.normal_(network.exit.weight, std=0.1)
    points = RANDOM.standard_normal((7, 5))
    with torch.no_grad():
        expected = network(torch.from_numpy(points).float()).numpy()
    carried = CoarseGenerator(network.arrays())(points)
    assert np.abs(carried - points).max() > 0.01
    np.testing.assert_allclose(carried, expected, atol=1e-5)


def test_too_few_latents_are_refused() -> None:
    with pytest.raises(ValueError, match="3 latents are too few"):
        fit.fit_gaussian(certain(RANDOM.standard_normal((3, 5))))


def test_posteriors_are_of_the_pictures_their_mirror_images_and_changed_copies() -> None:
    class Wide(Mirror):
        def encode(self, pixels: np.ndarray) -> tuple[Floats, Floats]:
            left = pixels[:, :, 0].mean(axis=(1, 2)).astype(np.float32)
            mean = np.stack([left, left], axis=1)
            return mean, np.full_like(mean, np.log(4.0))

    pixels = np.zeros((5, 16, 24, 3), dtype=np.uint8)
    pixels[:, :, :12] = 200
    encoded = fit.posteriors(Wide(pixels), pixels, copies=2, seed=0)
    assert encoded.mean.shape == (20, 2)
    np.testing.assert_allclose(encoded.std, 2)
    np.testing.assert_array_equal(encoded.mean[:5], 200)
    np.testing.assert_array_equal(encoded.mean[5:10], 0)
    assert np.abs(encoded.mean[10:15] - 200).max() < 30
    assert encoded.mean[10:15, 0].std() > 0.1
    assert encoded.mean[15:].max() < 30
