"""What a file may cost before it is read, and while it is."""

import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import ImageError, ImageTooLarge, UnreadableImage, UnsupportedImage
from app.images.decompression_bombs import MAX_MARKERS, MAX_READS, MAX_SCANS, MAX_VALUES, image_file, screen
from tests.images import file_of, jpeg_of_scans, photograph

MAX_PIXELS = 32_000_000


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_honest_files_pass(kind: str) -> None:
    image = photograph()
    screen(file_of(image.quantize(16) if kind == "GIF" else image, kind), MAX_PIXELS)


def test_a_jpeg_may_have_as_many_scans_as_the_limit_and_no_more() -> None:
    screen(jpeg_of_scans(MAX_SCANS), MAX_PIXELS)
    with pytest.raises(UnreadableImage, match="more than 64 scans"):
        screen(jpeg_of_scans(MAX_SCANS + 1), MAX_PIXELS)


def test_scans_behind_the_end_of_a_jpeg_are_not_counted() -> None:
    screen(file_of(photograph(), "JPEG") + b"\xff\xda" * (2 * MAX_SCANS), MAX_PIXELS)


def test_a_jpeg_of_too_many_segments_is_refused() -> None:
    whole = file_of(photograph(), "JPEG")
    segments = b"\xff\xe5\0\2" * (MAX_MARKERS + 1)
    with pytest.raises(UnreadableImage, match="more than 10000 segments"):
        screen(whole[:2] + segments + whole[2:] + b"\xff\xda" * (MAX_SCANS + 1), MAX_PIXELS)


def test_a_big_tiff_is_unsupported() -> None:
    with pytest.raises(UnsupportedImage, match="BigTIFF"):
        screen(b"II+\0" + bytes(99), MAX_PIXELS)


def test_a_tiff_with_a_field_of_too_many_values_is_refused() -> None:
    for count in (MAX_VALUES, MAX_VALUES + 1):
        data = b"II*\0" + struct.pack("<IHHHII", 8, 1, 282, 5, count, 300) + bytes(4)
        if count == MAX_VALUES:
            screen(data, MAX_PIXELS)
        else:
            with pytest.raises(UnreadableImage, match="too many values"):
                screen(data, MAX_PIXELS)


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiles_are_limited_in_both_byte_orders(order: str) -> None:
    start = {"<": b"II*\0", ">": b"MM\0*"}[order]
    fields = struct.pack(order + "HHIHH", 322, 3, 1, 9000, 0) + struct.pack(order + "HHII", 323, 4, 1, 9000)
    data = start + struct.pack(order + "IH", 8, 2) + fields + bytes(4)
    with pytest.raises(ImageTooLarge, match="tiles"):
        screen(data, 9000 * 9000 - 1)
    screen(data, 9000 * 9000)


@settings(max_examples=200, deadline=None)
@given(start=st.sampled_from([b"II*\0", b"MM\0*", b"II+\0", b"\xff\xd8\xff"]), rest=st.binary(max_size=60))
def test_screening_raises_only_errors_of_images(start: bytes, rest: bytes) -> None:
    with suppress(ImageError):
        screen(start + rest, MAX_PIXELS)


def test_a_file_can_be_read_so_often_and_no_more() -> None:
    file = image_file(bytes(MAX_READS + 1))
    for _ in range(MAX_READS):
        file.read(1)
    with pytest.raises(UnreadableImage, match="too many pieces"):
        file.read(1)


def test_a_file_too_short_for_so_many_pieces_is_not_watched() -> None:
    file = image_file(bytes(MAX_READS))
    assert len(file.read()) == MAX_READS
    assert type(file).__name__ == "BytesIO"
