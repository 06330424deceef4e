"""What all readers share: limits on sizes, and a decoder that is given pieces."""

import io

import pytest
from PIL import BmpImagePlugin

from app.errors import ImageTooLarge, UnreadableImage
from app.images.formats.opened import MAX_SIDE, check_size, decode_tile
from tests.images import file_of, photograph


def test_limits_are_inclusive() -> None:
    check_size(30, 20, 600, "PNG")
    check_size(MAX_SIDE, 1, MAX_SIDE, "PNG")
    with pytest.raises(ImageTooLarge, match="30 x 20 pixels; at most 599 pixels are allowed in a PNG"):
        check_size(30, 20, 599, "PNG")
    with pytest.raises(ImageTooLarge, match="no side may be longer than 65535"):
        check_size(1, MAX_SIDE + 1, 10**9, "PNG")


def test_a_tile_is_done_with_its_last_row_and_not_before() -> None:
    data = file_of(photograph(4, 3), "BMP")
    image = BmpImagePlugin.BmpImageFile(io.BytesIO(data))
    start = image.tile[0].offset
    decode_tile(image, lambda _: (data[at : at + 5] for at in range(start, len(data), 5)))
    assert image.getpixel((0, 0)) == photograph(4, 3).getpixel((0, 0))
    short = BmpImagePlugin.BmpImageFile(io.BytesIO(data))
    with pytest.raises(UnreadableImage):
        decode_tile(short, lambda _: (data[start:-1],))
