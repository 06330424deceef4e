"""Shapes of fitted images: found from the border alone."""

import numpy as np
import pytest
from PIL import Image

from app.codes.range_coder import TOTAL
from app.codes.shape import shape_index
from app.images.letterbox import fit
from model_training.compression.shapes import find_shapes, shape_frequencies
from model_training.data.synthetic import draw_cars


@pytest.mark.parametrize("size", [(96, 64), (64, 96), (90, 90), (120, 40), (88, 64)])
def test_the_shape_of_a_letterboxed_image_is_found(size: tuple[int, int]) -> None:
    originals = draw_cars(4, *size, seed=3)
    noisy = np.clip(originals + np.random.RandomState(0).randint(-9, 10, originals.shape), 0, 255).astype(
        np.uint8
    )
    fitted = np.stack([fit(Image.fromarray(image), 96, 64) for image in noisy])
    assert find_shapes(fitted).tolist() == [shape_index(size, 96, 64)] * 4


def test_frequencies_follow_what_was_seen_and_none_is_0() -> None:
    frequencies = shape_frequencies(np.array([63] * 70 + [50] * 30), 159)
    assert frequencies.sum() == TOTAL
    assert frequencies.min() >= 1
    assert frequencies[63] > 1.5 * frequencies[50] > 10 * frequencies[100]


def test_a_plain_image_has_some_shape() -> None:
    assert 0 <= find_shapes(np.full((1, 16, 24, 3), 90, np.uint8))[0] < 39
