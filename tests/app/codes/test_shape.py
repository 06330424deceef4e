"""Shapes of originals: each has a number, and a box in the middle of the model's image."""

import pytest

from app.codes.shape import shape_box, shape_count, shape_index, shape_size


def test_every_shape_has_its_own_number() -> None:
    assert shape_count(96, 64) == 159
    for index in range(159):
        wide, high = shape_size(index, 96, 64)
        assert shape_index((wide, high), 96, 64) == index
        assert wide == 96 or high == 64


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((3000, 2000), (0, 0, 96, 64)),
        ((4000, 3000), (5, 0, 90, 64)),
        ((2000, 3000), (26, 0, 69, 64)),
        ((3000, 1000), (0, 16, 96, 48)),
        ((5000, 1), (0, 31, 96, 32)),
        ((1, 5000), (47, 0, 48, 64)),
    ],
)
def test_the_box_is_where_letterboxing_puts_the_original(
    size: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    assert shape_box(shape_index(size, 96, 64), 96, 64) == box
