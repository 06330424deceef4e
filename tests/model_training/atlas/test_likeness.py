"""Likeness: what is made of cars is no car, and cars that were not learnt from still are."""

import numpy as np

from model_training.atlas.likeness import fit_likeness
from model_training.atlas.strangers import WAYS, strangers
from model_training.data.synthetic import draw_cars
from tests.model_training.compression.conftest import Blocks

STEPS = 200


def test_strangers_are_made_in_each_way_and_the_same_again() -> None:
    cars = draw_cars(60, 24, 16, seed=1)
    made = strangers(cars, seed=4)
    assert made.shape == cars.shape
    assert made.dtype == np.uint8
    np.testing.assert_array_equal(made, strangers(cars, seed=4))
    assert (made != strangers(cars, seed=5)).any()
    random = np.random.default_rng(0)
    for way in WAYS:
        image = np.asarray(way(cars[0], random))
        assert image.shape == cars[0].shape
        assert image.dtype == np.uint8
        assert np.abs(image.astype(int) - cars[0]).mean() > 3, way.__name__


def test_others_are_told_from_cars_and_few_cars_from_cars() -> None:
    backend = Blocks()
    cars, held_out, unseen = (draw_cars(count, 24, 16, seed) for seed, count in enumerate((500, 200, 300)))
    likeness = fit_likeness(backend, cars, held_out, STEPS)
    said = {
        name: likeness(backend.encode(images)[0])
        for name, images in {
            "held out": held_out,
            "unseen": unseen,
            "noise": np.random.default_rng(0).integers(0, 256, (100, 16, 24, 3), np.uint8),
            "grey": np.full((1, 16, 24, 3), 128, np.uint8),
            "upside down": np.ascontiguousarray(unseen[:, ::-1]),
        }.items()
    }
    shares = {name: (values >= 0.5).mean() for name, values in said.items()}
    assert 0.985 <= shares["held out"] <= 0.995
    assert shares["unseen"] >= 0.96
    assert shares["noise"] <= 0.05
    assert shares["grey"] == 0
    assert shares["upside down"] <= 0.2
