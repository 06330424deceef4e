import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.model.latents import MAX_SEED, new_seed, posterior_draws, standard_draws, to_latents


def test_standard_draws_are_the_frozen_ones() -> None:
    expected = np.array([[-0.38957822, 0.70834404], [-1.8051144, -1.5245351]], dtype=np.float32)
    np.testing.assert_array_equal(standard_draws(2, 2, 7), expected)


def test_temperature_scales_standard_draws() -> None:
    np.testing.assert_allclose(standard_draws(3, 4, 1, 0.5), standard_draws(3, 4, 1) / 2)
    assert not standard_draws(3, 4, 1, 0.0).any()


@given(st.integers(1, 64), st.integers(1, 64), st.integers(0, MAX_SEED))
def test_the_first_standard_draws_do_not_depend_on_the_count(few: int, many: int, seed: int) -> None:
    few, many = sorted((few, many))
    np.testing.assert_array_equal(standard_draws(few, 3, seed), standard_draws(many, 3, seed)[:few])


def test_posterior_draws_follow_mean_and_std() -> None:
    mean = np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32)
    std = np.array([[0.0, 1.0], [2.0, 0.0]], dtype=np.float32)
    draws = posterior_draws(mean, std, 9)
    assert draws.dtype == np.float32
    assert (draws[0, 0], draws[1, 1]) == (1.0, 4.0)
    np.testing.assert_allclose(
        (draws - mean)[std > 0] / std[std > 0], standard_draws(2, 2, 9)[std > 0], rtol=1e-5
    )


def test_seeds_matter_and_repeat() -> None:
    assert (standard_draws(1, 4, 1) == standard_draws(1, 4, 1)).all()
    assert (standard_draws(1, 4, 1) != standard_draws(1, 4, 2)).all()
    assert (standard_draws(1, 4, 0) != standard_draws(1, 4, MAX_SEED)).all()


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match="a seed must be between 0 and"):
        standard_draws(1, 1, seed)


def test_new_seeds_are_short_and_differ() -> None:
    seeds = {new_seed() for _ in range(20)}
    assert len(seeds) > 1
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_numbers_beyond_float32_become_its_largest() -> None:
    largest = np.finfo(np.float32).max
    found = to_latents(np.array([1e300, -1e300, 0.1]))
    np.testing.assert_array_equal(found, np.array([largest, -largest, 0.1], dtype=np.float32))
