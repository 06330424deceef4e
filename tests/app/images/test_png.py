"""PNG files: read again by Pillow and compared."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.images.png import encode_png
from tests.images import array_of, noise, opened


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (96, 64), (301, 7)])
def test_a_png_is_exact(size: tuple[int, int]) -> None:
    image = noise(size[1], size[0], 1)
    content = encode_png(image)
    assert opened(content).mode == "RGB"
    assert np.array_equal(array_of(content), image)


def test_a_slice_of_a_larger_array_is_written_as_it_looks() -> None:
    """Rows of a larger array are not contiguous."""
    image = noise(20, 40, 1)[:, 10:30]
    assert np.array_equal(array_of(encode_png(image)), image)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_a_png_of_any_size_is_exact(height: int, width: int, seed: int) -> None:
    assert np.array_equal(array_of(encode_png(noise(height, width, seed))), noise(height, width, seed))
