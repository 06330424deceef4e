"""TIFF: strips that are missing or broken are noticed, fields that say nothing of the image passed over."""

import struct
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from app.errors import ImageError, ImageTooLarge, UnreadableImage, UnsupportedImage
from app.images.formats.tiff import MAX_VALUES, Directory, open_tiff
from tests.image_files import DEFLATE, tiff_of
from tests.images import file_of, photograph

LIMIT = 10**7
SAMPLES = np.asarray(photograph(96, 64)).astype(np.int64)


def load(data: bytes) -> Image.Image:
    return open_tiff(data, LIMIT, LIMIT).load()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [1, DEFLATE])
def test_a_missing_strip_is_noticed(order: str, compression: int) -> None:
    whole = tiff_of(SAMPLES, 8, 2, order=order, compression=compression, rows=16)
    assert load(whole).size == (96, 64)
    tall = tiff_of(SAMPLES, 8, 2, order=order, compression=compression, rows=16, fields={257: [65]})
    with pytest.raises(UnreadableImage, match="strips of the TIFF are missing"):
        load(tall)


def test_a_wrong_checksum_of_a_packed_strip_is_damage() -> None:
    data = tiff_of(SAMPLES, 8, 2, compression=DEFLATE, rows=64)
    directory = Directory(data)
    end = directory.integer(273, 0) + directory.integer(279, 0)
    for place in range(end - 4, end):
        broken = bytearray(data)
        broken[place] ^= 1
        with pytest.raises(UnreadableImage, match="unpacked"):
            load(bytes(broken))


def test_a_strip_that_unpacks_to_too_little_is_incomplete() -> None:
    data = tiff_of(SAMPLES[:60], 8, 2, compression=DEFLATE, rows=64, fields={257: [64]})
    with pytest.raises(UnreadableImage, match="incomplete"):
        load(data)


@pytest.mark.parametrize("tag", [282, 305, 306, 700, 33723, 34377, 34665, 34853])
def test_broken_fields_beside_the_image_are_passed_over(tag: int) -> None:
    for values in ([65535], [7] * 9, [0]):
        assert load(tiff_of(SAMPLES, 8, 2, fields={tag: values})).size == (96, 64)


@pytest.mark.parametrize("mistaken", [(b"II*\0", b"II\0*"), (b"MM\0*", b"MM*\0")])
def test_the_signature_may_be_written_by_mistake(mistaken: tuple[bytes, bytes]) -> None:
    right, wrong = mistaken
    data = tiff_of(SAMPLES, 8, 2, order="<" if right[:2] == b"II" else ">")
    assert data.startswith(right)
    assert np.array_equal(np.asarray(load(wrong + data[4:])), SAMPLES)


def test_a_big_tiff_is_unsupported() -> None:
    with pytest.raises(UnsupportedImage, match="BigTIFF"):
        open_tiff(b"II+\0" + bytes(99), LIMIT, LIMIT)


def test_a_field_of_too_many_values_is_refused() -> None:
    with pytest.raises(UnreadableImage, match="too many values"):
        open_tiff(b"II*\0" + struct.pack("<IHHHII", 8, 1, 273, 4, MAX_VALUES + 1, 8) + bytes(4), LIMIT, LIMIT)


def test_planes_that_are_nothing_in_particular_need_not_be_there() -> None:
    four = np.concatenate([SAMPLES, SAMPLES[..., :1]], -1)
    data = bytearray(tiff_of(four, 8, 2, separate=True, rows=64, fields={338: [0]}))
    last = Directory(bytes(data)).integers(273)[3]
    place = data.rindex(struct.pack("<I", last))
    data[place : place + 4] = bytes(4)
    assert np.array_equal(np.asarray(load(bytes(data))), SAMPLES)


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiles_are_limited_in_both_byte_orders(order: str) -> None:
    fields = {322: [9008], 323: [9008], 324: [8], 325: [8]}
    data = tiff_of(SAMPLES, 8, 2, order=order, fields=fields)
    with pytest.raises(ImageTooLarge, match="tiles"):
        open_tiff(data, LIMIT, LIMIT)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_told_and_not_applied(orientation: int) -> None:
    opened = open_tiff(tiff_of(SAMPLES, 8, 2, fields={274: [orientation]}), LIMIT, LIMIT)
    assert opened.orientation == orientation
    assert np.array_equal(np.asarray(opened.load()), SAMPLES)


def test_the_profile_is_kept() -> None:
    data = file_of(photograph(), "TIFF", icc_profile=b"a profile")
    assert open_tiff(data, LIMIT, LIMIT).profile == b"a profile"


@settings(max_examples=200, deadline=None)
@given(start=st.sampled_from([b"II*\0", b"MM\0*", b"II+\0", b"II\0*"]), rest=st.binary(max_size=60))
def test_opening_raises_only_errors_of_images(start: bytes, rest: bytes) -> None:
    with suppress(ImageError, SyntaxError, OSError, ValueError):
        open_tiff(start + rest, LIMIT, LIMIT)
