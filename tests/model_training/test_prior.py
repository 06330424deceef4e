from pathlib import Path

import numpy as np
import pytest

from app.latents import read_prior
from model_training import prior
from model_training.codec import Floats
from tests.model_training.test_evaluate import Mirror

RANDOM = np.random.default_rng(0)


def test_correlated_latents_are_found_again(tmp_path: Path) -> None:
    mixing = np.array([[1.0, 0, 0], [0.8, 0.6, 0], [-0.5, 0.2, 0.3]])
    latents = RANDOM.standard_normal((4000, 3)) @ mixing.T + [1, 2, 3]
    prior.save(prior.fit(latents[:3000], latents[3000:]), tmp_path / "prior.npz")
    drawn = read_prior((tmp_path / "prior.npz").read_bytes(), 3).draw(20_000, seed=1)
    np.testing.assert_allclose(drawn.mean(axis=0), [1, 2, 3], atol=0.1)
    np.testing.assert_allclose(np.cov(drawn.T), mixing @ mixing.T, atol=0.1)


def test_the_number_of_components_is_chosen_by_held_out_likelihood() -> None:
    one = RANDOM.standard_normal((2000, 2))
    assert len(prior.fit(one[:1500], one[1500:]).weights_) == 1
    corners = np.array([[-9, -9], [-9, 9], [9, -9], [9, 9]])[RANDOM.integers(0, 4, 2000)]
    four = one + corners
    assert len(prior.fit(four[:1500], four[1500:]).weights_) == 4


def test_too_few_latents_are_refused() -> None:
    with pytest.raises(ValueError, match="3 latents are too few"):
        prior.fit(RANDOM.standard_normal((3, 5)), RANDOM.standard_normal((3, 5)))


def test_draws_are_of_the_posterior_and_of_the_mirror_images_too() -> None:
    class Wide(Mirror):
        def encode(self, pixels: np.ndarray) -> tuple[Floats, Floats]:
            left = (pixels[:, :, 0].mean(axis=(1, 2)) > 127).astype(np.float32)
            mean = np.stack([left, left], axis=1) * 100
            return mean, np.full_like(mean, np.log(4.0))

    pixels = np.zeros((500, 4, 4, 3), dtype=np.uint8)
    pixels[:, :, 0] = 255
    draws = prior.latent_draws(Wide(pixels), pixels, seed=0)
    assert draws.shape == (1000, 2)
    assert draws[:500].mean() == pytest.approx(100, abs=0.5)
    assert draws[500:].mean() == pytest.approx(0, abs=0.5)
    assert draws[500:].std() == pytest.approx(2, rel=0.1)
