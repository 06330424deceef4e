"""Named directions: each changes what it is named after, and the rest as little as can be."""

import numpy as np
import pytest

from model_training.atlas.attributes import ATTRIBUTES
from model_training.atlas.directions import fit_directions, regress
from model_training.data.synthetic import draw_cars
from tests.model_training.compression.conftest import Blocks


def test_regression_separates_what_goes_together() -> None:
    random = np.random.default_rng(0)
    first = random.standard_normal(2000)
    second = 0.8 * first + 0.6 * random.standard_normal(2000)
    ways = np.array([[2.0, 0, 0, 1], [0, -1, 3, 0]])
    latents = np.stack([first, second], axis=1) @ ways + 0.01 * random.standard_normal((2000, 4)) + 5
    found = regress(latents, np.stack([10 * first, second - 7], axis=1))
    np.testing.assert_allclose(found, ways, atol=0.08)


def test_directions_move_what_they_are_named_after() -> None:
    backend = Blocks()
    images = draw_cars(400, 24, 16, seed=1)
    directions = fit_directions(backend, images)
    # All of them fill their image.
    named = [one for one in ATTRIBUTES.values() if one.name and one.name != "Shape"]
    assert [(one.name, one.low, one.high) for one in directions] == [
        (one.name, one.low, one.high) for one in named
    ]
    (mean,) = backend.encode(images)[0].mean(axis=0, keepdims=True)
    for one in directions:
        assert np.linalg.norm(one.vector) == pytest.approx(1, abs=1e-3)
        assert one.std > 0
    by_ends = {(one.name, one.high): one for one in directions}

    def change(name: str, high: str) -> np.ndarray:
        one = by_ends[name, high]
        ends = np.stack([mean + side * one.std * one.vector for side in (-0.5, 0.5)]).astype(np.float32)
        low, up = backend.decode(ends).astype(np.float64)
        moved: np.ndarray = (up - low).mean(axis=2)
        return moved

    background, ground = change("Background", "bright"), change("Ground", "bright")
    assert background[:4].mean() > 5
    assert background[:4].mean() > 3 * np.abs(background[8:]).mean()
    assert ground[12:].mean() > 5
    assert ground[12:].mean() > 3 * np.abs(ground[:8]).mean()
    assert change("Paint", "light")[8:12, 8:16].mean() > 10


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ValueError, match="20 images are too few for 11 attributes"):
        fit_directions(Blocks(), draw_cars(20, 24, 16, seed=1))
