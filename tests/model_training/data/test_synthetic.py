import numpy as np

from model_training.data.synthetic import draw_cars


def test_the_same_seed_draws_the_same_cars_and_a_longer_set_begins_with_a_shorter_one() -> None:
    cars = draw_cars(6, 48, 32, seed=3)
    assert cars.shape == (6, 32, 48, 3)
    assert cars.dtype == np.uint8
    np.testing.assert_array_equal(draw_cars(2, 48, 32, seed=3), cars[:2])


def test_cars_differ_from_one_another_and_from_seed_to_seed() -> None:
    cars = np.concatenate([draw_cars(8, 48, 32, seed=0), draw_cars(8, 48, 32, seed=1)]).astype(int)
    differences = np.abs(cars[:, None] - cars[None]).mean(axis=(2, 3, 4))
    assert differences[~np.eye(16, dtype=bool)].min() > 3
