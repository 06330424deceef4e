"""The orientation in an EXIF block, and whatever a block may be instead."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.images.formats.exif import orientation


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_the_orientation_is_read(value: int, prefix: bytes) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    exif[0x0112] = value
    assert orientation(prefix + exif.tobytes()[6:]) == value


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["H", "I"])
def test_both_byte_orders_and_both_lengths_are_read(order: str, kind: str) -> None:
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "IH", 8, 1)
    field = struct.pack(order + "HHI" + kind, 0x0112, 3 if kind == "H" else 4, 1, 8)
    assert orientation(start + field + bytes(8)) == 8


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_upright(value: int) -> None:
    assert orientation(b"II*\0" + struct.pack("<IHHHIHH", 8, 1, 0x0112, 3, 1, value, 0)) == 1


@given(st.binary(max_size=60), st.sampled_from([b"", b"II*\0", b"MM\0*", b"Exif\0\0II*\0\x08\0\0\0"]))
def test_any_block_has_an_orientation(rest: bytes, start: bytes) -> None:
    assert 1 <= orientation(start + rest) <= 8


def test_no_block_is_upright() -> None:
    assert orientation(None) == orientation(b"") == 1
