"""Files are read again by Pillow and compared."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.images.arrays import ImageArray
from app.images.encode import encode_gif, encode_jpeg, encode_webp, enlarge, grid, scaled_size
from tests.images import array_of, difference, opened, photograph


@pytest.mark.parametrize(("encode", "kind"), [(encode_jpeg, "JPEG"), (encode_webp, "WEBP")])
def test_lossy_files_come_close(encode: Callable[[ImageArray], bytes], kind: str) -> None:
    image = np.asarray(photograph())
    content = encode(image)
    assert opened(content).format == kind
    assert difference(array_of(content), image) < 4


def test_a_gif_is_an_endless_animation() -> None:
    frames = [np.asarray(photograph(seed=seed)) for seed in range(3)]
    content = encode_gif(frames)
    with Image.open(io.BytesIO(content)) as image:
        assert image.info["loop"] == 0
        assert getattr(image, "n_frames", 1) == 3
        for number, frame in enumerate(frames):
            image.seek(number)
            assert image.info["duration"] > 0
            assert difference(np.asarray(image.convert("RGB")), frame) < 5  # three cars share 256 colours


@pytest.mark.parametrize(
    ("longer_edge", "size"), [(None, (96, 64)), (96, (96, 64)), (16, (16, 11)), (2048, (2048, 1365))]
)
def test_size_sets_the_longer_edge(longer_edge: int | None, size: tuple[int, int]) -> None:
    assert scaled_size(96, 64, longer_edge) == size
    assert scaled_size(64, 96, longer_edge) == size[::-1]


def test_thin_images_keep_a_pixel() -> None:
    assert scaled_size(2000, 10, 16) == (16, 1)


def test_enlarge_is_smooth_and_leaves_native_images_alone() -> None:
    image = np.asarray(photograph())
    assert enlarge(image, None) is image
    assert enlarge(image, 90) is image
    large = enlarge(image, 360)
    assert large.shape == (240, 360, 3)
    assert difference(np.asarray(Image.fromarray(large).resize((90, 60))), image) < 2


def test_a_grid_of_one_is_the_image() -> None:
    image = np.asarray(photograph())
    assert grid([image]) is image


@pytest.mark.parametrize(
    ("count", "rows", "columns"), [(2, 1, 2), (3, 2, 2), (5, 2, 3), (9, 3, 3), (12, 3, 4), (64, 8, 8)]
)
def test_a_grid_fills_rows_in_order(count: int, rows: int, columns: int) -> None:
    images = [np.full((2, 3, 3), number, np.uint8) for number in range(count)]
    sheet = grid(images)
    assert sheet.shape == (rows * 2, columns * 3, 3)
    cells = [sheet[2 * row, 3 * column, 0] for row in range(rows) for column in range(columns)]
    assert cells == [*range(count), *[255] * (rows * columns - count)]


def test_a_filmstrip_is_one_row() -> None:
    images = [np.full((2, 3, 3), number, np.uint8) for number in range(5)]
    assert grid(images, columns=5)[0, ::3, 0].tolist() == [0, 1, 2, 3, 4]


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(16, 2048))
def test_scaled_sizes_keep_the_aspect(width: int, height: int, longer_edge: int) -> None:
    size = scaled_size(width, height, longer_edge)
    assert max(size) == longer_edge
    assert abs(size[0] * height - size[1] * width) <= max(width, height)
