"""GIF: the first frame, whole, wherever it lies on the screen."""

import struct

import numpy as np
import pytest

from app.errors import ImageTooLarge, UnreadableImage
from app.images.formats.gif import open_gif, read_structure
from tests.image_files import gif_of
from tests.images import file_of, opened, photograph

LIMIT = 10**7
SMALL = photograph(60, 40).quantize(32)


@pytest.mark.parametrize("interlaced", [False, True])
def test_what_is_decoded_is_what_pillow_decodes(interlaced: bool) -> None:
    data = file_of(SMALL, "GIF", interlace=interlaced)
    image = open_gif(data, LIMIT, LIMIT).load()
    assert np.array_equal(np.asarray(image.convert("RGB")), np.asarray(opened(data).convert("RGB")))


def test_a_missing_trailer_is_no_damage() -> None:
    data = file_of(SMALL, "GIF")
    for kept in (-1, -2):
        assert open_gif(data[:kept], LIMIT, LIMIT).load().size == (60, 40)


def test_a_frame_cut_in_its_data_is_refused() -> None:
    data = file_of(SMALL, "GIF")
    start = read_structure(data).start
    for cut in range(start, len(data) - 3, 7):
        for tail in (b"", b"\0;", b"\0" * 300 + b";"):
            with pytest.raises(UnreadableImage):
                open_gif(data[:cut] + tail, LIMIT, LIMIT).load()


def test_the_next_frame_does_not_fill_what_the_first_lacks() -> None:
    first, second = (file_of(photograph(60, 40, seed).quantize(32), "GIF") for seed in range(2))
    start, behind = read_structure(first).start, second.index(b",\0\0\0\0")
    with pytest.raises(UnreadableImage):
        open_gif(first[: start + 100] + b"\0" + second[behind:], LIMIT, LIMIT).load()


@pytest.mark.parametrize(("screen", "place"), [((8, 6), (0, 0)), ((96, 64), (70, 50)), ((0, 0), (3, 3))])
def test_the_canvas_holds_screen_and_frame(screen: tuple[int, int], place: tuple[int, int]) -> None:
    reader = open_gif(gif_of(SMALL, screen, place), LIMIT, LIMIT)
    assert reader.size == (max(screen[0], place[0] + 60), max(screen[1], place[1] + 40))
    assert reader.load().size == reader.size


def test_canvas_and_frame_are_checked_before_anything_is_decoded() -> None:
    for data in (gif_of(SMALL, (65_535, 65_535), (0, 0)), gif_of(SMALL, (60, 40), (60_000, 60_000))):
        with pytest.raises(ImageTooLarge):
            open_gif(data, LIMIT, LIMIT)


def test_a_frame_without_pixels_is_damaged() -> None:
    data = bytearray(file_of(SMALL, "GIF"))
    at = data.index(b",\0\0\0\0") + 5
    data[at : at + 4] = struct.pack("<HH", 0, 40)
    with pytest.raises(UnreadableImage, match="damaged"):
        open_gif(bytes(data), LIMIT, LIMIT)
