"""PNG files: read again by Pillow and compared."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.images.arrays import ImageArray
from app.images.png import encode_png
from tests.images import opened, pixels_of


def noise(height: int, width: int, seed: int) -> ImageArray:
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (96, 64), (301, 7)])
def test_png_is_exact(size: tuple[int, int]) -> None:
    pixels = noise(size[1], size[0], 1)
    content = encode_png(pixels)
    assert opened(content).mode == "RGB"
    assert np.array_equal(pixels_of(content), pixels)


def test_png_of_a_slice() -> None:
    """Rows of a larger array are not contiguous."""
    pixels = noise(20, 40, 1)[:, 10:30]
    assert np.array_equal(pixels_of(encode_png(pixels)), pixels)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_any_png_is_exact(height: int, width: int, seed: int) -> None:
    assert np.array_equal(pixels_of(encode_png(noise(height, width, seed))), noise(height, width, seed))
