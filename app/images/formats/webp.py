"""WebP files: the first frame on its canvas."""

import io
from collections.abc import Iterator

from PIL import Image, ImageDraw, WebPImagePlugin

from app.errors import UnreadableImage
from app.images.formats import exif
from app.images.formats.opened import OpenedImage, check_size

CHUNKS = (b"VP8 ", b"VP8L", b"VP8X")
MAX_CHUNKS = 100_000
HEADER = 12


def is_webp(data: bytes) -> bool:
    """Whether the file is a RIFF of the kind WEBP."""
    return data.startswith(b"RIFF") and data[8:12] == b"WEBP"


def open_webp(data: bytes, _: int, max_pixels: int) -> OpenedImage:
    """Read the header; libwebp takes memory for the canvas as soon as it is asked for anything.

    Raises:
        UnreadableImage, ImageTooLarge.
    """
    sizes, frame = _sizes(data)
    if not sizes:
        raise UnreadableImage("the picture's header is damaged")
    for size in sizes:
        check_size(*size, max_pixels, "WEBP")
    image = WebPImagePlugin.WebPImageFile(io.BytesIO(data))
    check_size(*image.size, max_pixels, "WEBP")

    def load() -> Image.Image:
        image.load()
        if frame is None or frame == (0, 0, *image.size) or image.mode == "RGBA":
            return image
        # The canvas has no alpha, but what the frame does not cover is transparent all the same.
        mask = Image.new("L", image.size)
        ImageDraw.Draw(mask).rectangle((frame[0], frame[1], frame[2] - 1, frame[3] - 1), fill=255)
        covered = image.convert("RGBA")
        covered.putalpha(mask)
        return covered

    return OpenedImage(
        "WEBP", image.size, load, exif.orientation(image.info.get("exif")), image.info.get("icc_profile")
    )


def _sizes(data: bytes) -> tuple[list[tuple[int, int]], tuple[int, int, int, int] | None]:
    """The sizes that canvas, frames and bitstreams announce, and the box of an animation's first frame."""
    sizes: list[tuple[int, int]] = []
    frame = None
    for kind, at, length in _chunks(data, HEADER, len(data)):
        if kind == b"VP8X" and length >= 10 and at + 10 <= len(data):
            sizes.append((_number(data, at + 4, 3) + 1, _number(data, at + 7, 3) + 1))
        elif kind == b"ANMF" and length >= 16:
            left, top = 2 * _number(data, at, 3), 2 * _number(data, at + 3, 3)
            width, height = _number(data, at + 6, 3) + 1, _number(data, at + 9, 3) + 1
            sizes.append((width, height))
            sizes += _bitstreams(data, at + 16, at + length)
            frame = left, top, left + width, top + height
            break
        elif kind in (b"VP8 ", b"VP8L"):
            sizes += _bitstreams(data, at - 8, at + length)
            break
    return sizes, frame


def _bitstreams(data: bytes, at: int, end: int) -> Iterator[tuple[int, int]]:
    for kind, start, length in _chunks(data, at, end):
        if kind == b"VP8 " and length >= 10 and data[start + 3 : start + 6] == b"\x9d\x01\x2a":
            yield _number(data, start + 6, 2) & 0x3FFF, _number(data, start + 8, 2) & 0x3FFF
        elif kind == b"VP8L" and length >= 5:
            bits = _number(data, start + 1, 4)
            yield (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _chunks(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, place of the content, length) of each chunk; the content may be cut short."""
    for _ in range(MAX_CHUNKS):
        if at + 8 > min(end, len(data)):
            return
        length = _number(data, at + 4, 4)
        yield data[at : at + 4], at + 8, length
        at += 8 + length + length % 2
    raise UnreadableImage("the picture is cut into too many pieces")


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little")
