"""PNG: what is not verified is refused, what is broken beside the image passed over."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from app.errors import ImageTooLarge, UnreadableImage
from app.images.formats.png import MAX_CHUNKS, open_png, read_structure
from tests.images import PNG_SIGNATURE, announced_png, file_of, photograph, png_chunk

LIMIT = 10**7


def load(data: bytes) -> Image.Image:
    return open_png(data, LIMIT, LIMIT).load()


def chunk_with_wrong_checksum(kind: bytes, content: bytes) -> bytes:
    whole = png_chunk(kind, content)
    return whole[:-1] + bytes((whole[-1] ^ 1,))


def with_chunk(data: bytes, chunk: bytes) -> bytes:
    """A PNG with one more chunk behind its header."""
    return data[:33] + chunk + data[33:]


@pytest.mark.parametrize("colours", [0, 64])
def test_one_flipped_bit_of_the_image_is_never_accepted(colours: int) -> None:
    image = photograph(60, 40).quantize(colours) if colours else photograph(60, 40)
    whole = file_of(image)
    end = whole.rindex(b"IEND") - 4
    random = np.random.RandomState(0)
    for place in random.randint(8, end, 200):
        broken = bytearray(whole)
        broken[place] ^= 1 << random.randint(8)
        with pytest.raises((UnreadableImage, ImageTooLarge)):
            load(bytes(broken))


@pytest.mark.parametrize("kept", range(1, 13))
def test_a_missing_end_mark_is_no_damage(kept: int) -> None:
    whole = file_of(photograph())
    assert np.array_equal(np.asarray(load(whole[:-kept])), np.asarray(photograph()))


@pytest.mark.parametrize(
    "kind", [b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf", b"gAMA", b"pHYs", b"acTL", b"fcTL"]
)
@pytest.mark.parametrize("content", [b"", b"\xff" * 5, b"name\0\0nothing that unpacks"])
@pytest.mark.parametrize("write", [png_chunk, chunk_with_wrong_checksum])
def test_broken_chunks_beside_the_image_are_passed_over(kind: bytes, content: bytes, write: object) -> None:
    assert callable(write)
    data = with_chunk(file_of(photograph()), write(kind, content))
    assert np.array_equal(np.asarray(load(data)), np.asarray(photograph()))


def test_a_broken_chunk_that_nobody_knows_may_have_been_the_palette() -> None:
    with pytest.raises(UnreadableImage, match="checksum"):
        load(with_chunk(file_of(photograph()), chunk_with_wrong_checksum(b"PLTF", b"abc")))


@pytest.mark.parametrize("rows", [0, 1, 39])
def test_data_that_ends_well_before_the_last_row_is_incomplete(rows: int) -> None:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 60, 40, 8, 2, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(bytes(rows * 181)))
    with pytest.raises(UnreadableImage, match="incomplete"):
        load(PNG_SIGNATURE + header + data + png_chunk(b"IEND", b""))


def test_a_wrong_checksum_of_the_unpacked_data_is_damage() -> None:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 60, 40, 8, 2, 0, 0, 0))
    packed = bytearray(zlib.compress(bytes(40 * 181)))
    packed[-1] ^= 1
    with pytest.raises(UnreadableImage, match="unpacked"):
        load(PNG_SIGNATURE + header + png_chunk(b"IDAT", bytes(packed)) + png_chunk(b"IEND", b""))


def test_more_data_than_the_image_needs_is_left_alone() -> None:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 60, 40, 8, 2, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(bytes(4000 * 181)))
    assert load(PNG_SIGNATURE + header + data).size == (60, 40)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_data_may_be_cut_into_chunks_of_any_size(size: int) -> None:
    whole = file_of(photograph())
    at = whole.index(b"IDAT")
    length = int.from_bytes(whole[at - 4 : at], "big")
    data = whole[at + 4 : at + 4 + length]
    chunks = b"".join(png_chunk(b"IDAT", data[place : place + size]) for place in range(0, length, size))
    cut = whole[: at - 4] + chunks + png_chunk(b"IDAT", b"") + whole[at + 8 + length :]
    assert np.array_equal(np.asarray(load(cut)), np.asarray(photograph()))


def test_too_many_chunks_are_refused() -> None:
    with pytest.raises(UnreadableImage, match="pieces"):
        read_structure(with_chunk(file_of(photograph()), png_chunk(b"tIME", b"") * MAX_CHUNKS))


def test_the_size_is_checked_before_anything_is_decoded() -> None:
    with pytest.raises(ImageTooLarge):
        open_png(announced_png(5000, 5000), LIMIT, LIMIT)


@pytest.mark.parametrize("where", ["before", "behind"])
def test_the_orientation_is_read_wherever_it_stands(where: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    chunk = png_chunk(b"eXIf", exif.tobytes()[6:])
    whole = file_of(photograph())
    data = with_chunk(whole, chunk) if where == "before" else whole[:-12] + chunk + whole[-12:]
    assert open_png(data, LIMIT, LIMIT).orientation == 6


def test_a_palette_image_without_its_palette_is_damaged() -> None:
    whole = file_of(photograph().quantize(16))
    at = whole.index(b"PLTE") - 4
    length = int.from_bytes(whole[at : at + 4], "big")
    with pytest.raises(UnreadableImage, match="palette"):
        load(whole[:at] + whole[at + 12 + length :])
