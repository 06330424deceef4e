from typing import Any

import numpy as np
import pytest

from app.model.prior_networks import CoarseGenerator, FineGenerator
from tests.app.model.priors import coarse_layers, fine_layers

POINTS = np.random.default_rng(3).standard_normal((9, 5))


def test_the_coarse_generator_computes_what_its_layers_say() -> None:
    layers = coarse_layers()

    def silu(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.asarray(values / (1 + np.exp(-values)))

    points = POINTS[:, :2]
    state = silu(points @ layers["entry"].T + layers["entry_bias"])
    for weight, bias in zip(layers["hidden"], layers["hidden_bias"], strict=True):
        state = state + silu(state @ weight.T + bias)
    expected = points + state @ layers["exit"].T + layers["exit_bias"]
    np.testing.assert_allclose(CoarseGenerator(layers)(points), expected, rtol=1e-12)


@pytest.mark.parametrize(
    "generator", [CoarseGenerator(coarse_layers(dim=5)), FineGenerator(fine_layers())], ids=["coarse", "fine"]
)
@pytest.mark.parametrize("count", range(10))
def test_what_becomes_of_a_point_does_not_depend_on_the_others(
    generator: CoarseGenerator | FineGenerator, count: int
) -> None:
    np.testing.assert_array_equal(generator(POINTS[:count]), generator(POINTS)[:count])


@pytest.mark.parametrize(
    "change",
    [
        {"entry": np.zeros((6, 3))},
        {"hidden": np.zeros((6, 6))},
        {"exit": np.zeros(2)},
        {"exit_bias": np.array([0.0, np.nan])},
        {"hidden_bias": np.zeros((3, 6))},
    ],
)
def test_impossible_layers_of_a_coarse_generator_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="of the coarse generator"):
        CoarseGenerator(coarse_layers() | change)


def test_the_fine_generator_changes_the_trailing_coordinates_by_what_the_others_are() -> None:
    generator, points = FineGenerator(fine_layers()), POINTS[:4].copy()
    completed = generator(points)
    np.testing.assert_array_equal(completed[:, :2], points[:, :2])
    assert np.abs(completed[:, 2:] - points[:, 2:]).min() > 1e-3
    points[:, 0] += 1
    assert np.abs(generator(points)[:, 2:] - completed[:, 2:]).min() > 1e-4


@pytest.mark.parametrize(
    "change",
    [
        {"picture": np.zeros((5, 12))},
        {"entry": np.zeros((3, 3, 2, 6))},
        {"entry_bias": np.zeros(6)},
        {"first": np.zeros((2, 5, 5, 6, 6))},
        {"second": np.zeros((1, 3, 3, 6, 6))},
        {"second_bias": np.full((2, 6), np.inf)},
        {"back": np.zeros((2, 3, 2, 5)), "keep": np.zeros(5)},
        {"back": np.zeros((2, 3, 2, 0)), "keep": np.zeros(0)},
        {"keep": np.zeros((3, 1))},
    ],
)
def test_impossible_layers_of_a_fine_generator_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="of the fine generator"):
        FineGenerator(fine_layers() | change)
