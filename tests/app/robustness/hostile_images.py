"""Files made to break a decoder, all generated."""

import struct
import zlib
from collections.abc import Callable

from app.errors import ImageError, ImageTooLarge, UnreadableImage, UnsupportedImage
from tests.app.api.requests import JPEG
from tests.heic import heic
from tests.image_files import animated_webp, gif_of
from tests.images import PNG_SIGNATURE, announced_png, file_of, jpeg_of_scans, photograph, png_chunk

MIB = 2**20

Outcome = type[ImageError] | None
"""How the reading of a file ends; None where it is an image."""


def png(width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 2) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(bytes(height * (1 + 3 * width))))
    return PNG_SIGNATURE + header + b"".join(chunks) + data + png_chunk(b"IEND", b"")


def tiff(fields: dict[int, tuple[int, int, int]], body: bytes = b"") -> bytes:
    """A little-endian TIFF of one directory: tag -> (type, count, value or offset)."""
    directory = b"".join(
        struct.pack("<HHII", tag, kind, count, value) for tag, (kind, count, value) in sorted(fields.items())
    )
    return b"II*\0" + struct.pack("<IH", 8, len(fields)) + directory + bytes(4) + body


def grey_tiff(
    width: int, height: int, more: dict[int, tuple[int, int, int]]
) -> dict[int, tuple[int, int, int]]:
    plain = {256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1)}
    return plain | {277: (3, 1, 1)} | more


def small(kind: str) -> bytes:
    image = photograph(8, 6)
    if kind == "HEIF":
        return heic()
    return file_of(image.quantize(16) if kind == "GIF" else image, kind)


JPEG_COMMENT = b"\xff\xfe\0\4\xff\xd9"


def gif_with(blocks: bytes) -> bytes:
    whole = small("GIF")
    at = 13 + 3 * 2 ** ((whole[10] & 7) + 1)
    return whole[:at] + blocks + whole[at:]


def announced_bmp(width: int, height: int, compression: int = 0, body: bytes = b"") -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, compression, len(body), 1, 1, 256, 256)
    return b"BM" + struct.pack("<IHHI", 1078 + len(body), 0, 0, 1078) + header + bytes(1024) + body


def announced_webp(width: int, height: int) -> bytes:
    whole = bytearray(file_of(photograph(8, 6), "WEBP", lossless=True))
    at = whole.index(b"VP8L") + 9
    whole[at : at + 4] = struct.pack("<I", (width - 1) | (height - 1) << 14)
    return bytes(whole)


def announced_avif(width: int, height: int) -> bytes:
    whole = file_of(photograph(64, 64), "AVIF")
    size = struct.pack(">II", 64, 64)
    return whole.replace(b"ispe\0\0\0\0" + size, b"ispe\0\0\0\0" + struct.pack(">II", width, height))


def announced_gif(width: int, height: int) -> bytes:
    whole = bytearray(small("GIF"))
    whole[6:10] = struct.pack("<HH", width, height)
    return bytes(whole)


def frame_of(side: int) -> bytes:
    """A GIF of a hundred bytes whose first frame is announced to be so large, and cleared behind it."""
    whole = bytearray(gif_of(photograph(8, 6).quantize(16), (8, 6), (0, 0), disposal=2))
    at = whole.index(b",\0\0\0\0") + 5
    whole[at : at + 4] = struct.pack("<HH", side, side)
    return bytes(whole)


def announced_jpeg(width: int, height: int) -> bytes:
    whole = bytearray(small("JPEG"))
    at = whole.index(b"\xff\xc0") + 5
    whole[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(whole)


BOMBS: dict[str, tuple[Callable[[], bytes], Outcome]] = {
    "PNG that announces 2.5 gigapixels": (lambda: announced_png(50_000, 50_000), ImageTooLarge),
    "PNG that announces 33 megapixels": (lambda: announced_png(5_750, 5_750), ImageTooLarge),
    "PNG that announces more than 32 bits": (lambda: announced_png(2**31 - 1, 2**31 - 1), ImageTooLarge),
    "JPEG that announces 4 gigapixels": (lambda: announced_jpeg(65_500, 65_500), ImageTooLarge),
    "GIF that announces 4 gigapixels": (lambda: announced_gif(65_535, 65_535), ImageTooLarge),
    "BMP that announces 10 gigapixels": (lambda: announced_bmp(100_000, 100_000), ImageTooLarge),
    "BMP of negative height": (lambda: announced_bmp(100_000, -100_000), ImageTooLarge),
    "WebP that announces 268 megapixels": (lambda: announced_webp(16_383, 16_383), ImageTooLarge),
    "AVIF that announces 900 megapixels": (lambda: announced_avif(30_000, 30_000), ImageTooLarge),
    "TIFF that announces 10 gigapixels": (
        lambda: tiff(grey_tiff(100_000, 100_000, {273: (4, 1, 8), 278: (4, 1, 9), 279: (4, 1, 9)})),
        ImageTooLarge,
    ),
    "TIFF of 30 million rows": (
        lambda: tiff(grey_tiff(1, 30_000_000, {273: (4, 1, 8), 278: (4, 1, 9), 279: (4, 1, 9)})),
        ImageTooLarge,
    ),
    "PNG of 65536 rows": (lambda: announced_png(1, 65_536), ImageTooLarge),
    "TIFF of one enormous tile": (
        lambda: tiff(
            grey_tiff(
                5000,
                5000,
                {259: (3, 1, 8), 322: (4, 1, 65_520), 323: (4, 1, 30_000), 324: (4, 1, 8), 325: (4, 1, 9)},
            )
        ),
        ImageTooLarge,
    ),
    "TIFF of millions of strips": (
        lambda: tiff(
            grey_tiff(1, 4_000_000, {273: (4, 4_000_000, 99), 278: (4, 1, 1), 279: (4, 4_000_000, 99)}),
            bytes(16 * MIB),
        ),
        UnreadableImage,
    ),
    "TIFF of a field of a million fractions": (
        lambda: tiff(grey_tiff(9, 9, {282: (5, 1_000_000, 300)}), bytes(8 * MIB)),
        UnreadableImage,
    ),
    "BigTIFF": (lambda: b"II+\0" + struct.pack("<HHQ", 8, 0, 16) + bytes(99), UnsupportedImage),
    "JPEG of 65 scans": (lambda: jpeg_of_scans(65), UnreadableImage),
    "JPEG of 65 scans behind a comment that looks like its end": (
        lambda: JPEG_COMMENT.join((jpeg_of_scans(65)[:2], jpeg_of_scans(65)[2:])),
        UnreadableImage,
    ),
    "JPEG of 65 scans with such comments between them": (
        lambda: jpeg_of_scans(65).replace(b"\xff\xda", JPEG_COMMENT + b"\xff\xda"),
        UnreadableImage,
    ),
    "JPEG of empty segments": (
        lambda: JPEG[:2] + b"\xff\xe5\0\2" * 200_000 + JPEG[2:],
        UnreadableImage,
    ),
    "JPEG of fill bytes": (lambda: JPEG[:2] + b"\xff" * 300_000 + JPEG[2:], None),
    "PNG of empty chunks": (lambda: png(9, 9, png_chunk(b"tIME", b"") * 110_000), UnreadableImage),
    "PNG whose profile unpacks to 200 MB": (
        lambda: png(9, 9, png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(200 * MIB), 9))),
        None,
    ),
    "PNG whose texts unpack to 100 MB": (
        lambda: png(
            9, 9, *(png_chunk(b"zTXt", b"%d\0\0" % n + zlib.compress(bytes(MIB))) for n in range(100))
        ),
        None,
    ),
    "GIF of comments": (lambda: gif_with(b"\x21\xfe\x01a\0" * 100_000), None),
    "GIF of one comment in crumbs": (
        lambda: gif_with(b"\x21\xfe" + b"\x01a" * 200_000 + b"\0"),
        UnreadableImage,
    ),
    "GIF of control blocks": (lambda: gif_with(b"\x21\xf9\4\0\0\0\0\0" * 100_000), None),
    "GIF whose first frame announces 4 gigapixels": (lambda: frame_of(65_000), ImageTooLarge),
    "GIF whose first frame lies far outside the screen": (
        lambda: gif_of(photograph(8, 6).quantize(16), (8, 6), (60_000, 60_000)),
        ImageTooLarge,
    ),
    "WebP animation on a canvas of 4 gigapixels": (
        lambda: animated_webp(photograph(8, 6), (65_000, 65_000), (0, 0)),
        ImageTooLarge,
    ),
    "HEIC that announces 900 megapixels": (lambda: heic(size=(30_000, 30_000)), ImageTooLarge),
    "HEIC coded larger than it says": (lambda: heic(size=(8, 8)), UnreadableImage),
    "BMP of runs of one": (
        lambda: announced_bmp(2000, 2000, 1, (b"\1A" * 2000 + b"\0\0") * 200),
        UnreadableImage,
    ),
}
