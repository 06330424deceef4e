"""Files are read again by Pillow and compared."""

import io
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.images.arrays import ImageArray
from app.images.encode import (
    encode_avif,
    encode_gif,
    encode_jpeg,
    encode_moving_avif,
    encode_moving_webp,
    encode_webp,
    enlarge,
    frame_durations,
    grid,
    scaled_size,
)
from tests.images import array_of, difference, opened, photograph


@pytest.mark.parametrize(
    ("encode", "kind"), [(encode_jpeg, "JPEG"), (encode_webp, "WEBP"), (encode_avif, "AVIF")]
)
def test_lossy_files_come_close(encode: Callable[[ImageArray], bytes], kind: str) -> None:
    image = np.asarray(photograph())
    content = encode(image)
    assert opened(content).format == kind
    assert difference(array_of(content), image) < 4


Animate = Callable[[Sequence[ImageArray], int | None], bytes]
ANIMATIONS = [(encode_gif, "GIF"), (encode_moving_webp, "WEBP"), (encode_moving_avif, "AVIF")]


def frames_of(content: bytes) -> tuple[list[ImageArray], list[int]]:
    """The frames of an animation and the milliseconds that each is shown for."""
    frames, durations = [], []
    with Image.open(io.BytesIO(content)) as image:
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            frames.append(np.asarray(image.convert("RGB")))
            durations.append(image.info.get("duration", 0))
    return frames, durations


@pytest.mark.parametrize(("animate", "kind"), ANIMATIONS)
@pytest.mark.parametrize("count", [2, 3, 9])
def test_an_animation_has_each_frame_in_its_place_and_for_its_time(
    animate: Animate, kind: str, count: int
) -> None:
    images = [np.asarray(photograph(seed=seed)) for seed in range(count)]
    content = animate(images, 120)
    assert opened(content).format == kind
    frames, durations = frames_of(content)
    assert durations == [600, *[120] * (count - 2), 600] == frame_durations(count)
    large = [enlarge(image, 120) for image in images]
    apart = [[difference(frame, image) for image in large] for frame in frames]
    assert np.argmin(apart, axis=1).tolist() == list(range(count))
    assert max(np.diag(apart)) < (10 if kind == "GIF" else 4)  # so many cars share 256 colours in a GIF


def test_an_animation_never_ends() -> None:
    images = [np.asarray(photograph(seed=seed)) for seed in range(3)]
    assert opened(encode_gif(images)).info["loop"] == 0
    assert opened(encode_moving_webp(images)).info["loop"] == 0
    content = encode_moving_avif(images)
    edit_list = content.index(b"elst")
    assert content[edit_list + 7] & 1, "of ISO 14496-12, 8.6.6: the edit repeats, and no end is given"


def test_an_animation_does_not_say_when_it_was_made() -> None:
    images = [np.asarray(photograph(seed=seed)) for seed in range(3)]
    content = encode_moving_avif(images)
    times = {box: content.index(box) + 8 for box in (b"mvhd", b"tkhd", b"mdhd")}
    assert [content[at - 4] for at in times.values()] == [1, 1, 1], "times of 64 bits"
    assert [content[at : at + 16] for at in times.values()] == [bytes(16)] * 3
    assert len(frames_of(content)[0]) == 3


@pytest.mark.parametrize(("animate", "kind"), ANIMATIONS)
def test_equal_frames_last_as_long_as_they_do_apart(animate: Animate, kind: str) -> None:
    one, other = (np.asarray(photograph(seed=seed)) for seed in range(2))
    _, durations = frames_of(animate([one, one, other, other], None))
    assert durations == ([600, 120, 120, 600] if kind == "AVIF" else [720, 720])


@pytest.mark.parametrize(("animate", "kind"), ANIMATIONS)
def test_one_frame_is_a_still_image(animate: Animate, kind: str) -> None:
    image = np.asarray(photograph())
    content = animate([image], None)
    assert opened(content).format == kind
    frames, _ = frames_of(content)
    assert len(frames) == 1
    assert difference(frames[0], image) < 4


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
