"""Writers of image files in every layout that a format has, for tests: Pillow writes only some of them."""

import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.images import PNG_SIGNATURE, file_of, png_chunk

Samples = NDArray[np.int64]

PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
DEFLATE = 8


def packed_rows(samples: Samples, depth: int, order: str = ">") -> list[bytes]:
    """Each row of (height, width, channels) samples, in so many bits a sample."""
    rows = samples.reshape(len(samples), -1)
    if depth >= 8:
        return [row.astype(f"{order}u{depth // 8}").tobytes() for row in rows]
    bits = (rows[:, :, None] >> np.arange(depth - 1, -1, -1)) & 1
    return [np.packbits(row.ravel().astype(np.uint8)).tobytes() for row in bits]


def png_of(
    samples: Samples,
    depth: int,
    colour: int,
    *,
    transparency: bytes = b"",
    palette: bytes = b"",
    interlaced: bool = False,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """A PNG of (height, width, channels) samples, with more chunks before and behind its data."""
    parts = [samples[y::down, x::across] for x, y, across, down in PASSES] if interlaced else [samples]
    rows = b"".join(b"\0" + row for part in parts if part.size for row in packed_rows(part, depth))
    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    chunks = [png_chunk(b"IHDR", header), before]
    chunks += [png_chunk(b"PLTE", palette)] if palette else []
    chunks += [png_chunk(b"tRNS", transparency)] if transparency else []
    return b"".join(
        (PNG_SIGNATURE, *chunks, png_chunk(b"IDAT", zlib.compress(rows)), after, png_chunk(b"IEND", b""))
    )


def tiff_of(
    samples: NDArray[Any],
    depth: int,
    photometric: int,
    *,
    order: str = "<",
    compression: int = 1,
    predictor: bool = False,
    separate: bool = False,
    rows: int = 16,
    fields: Mapping[int, Sequence[int]] | None = None,
) -> bytes:
    """A TIFF of (height, width, channels) samples in strips of so many rows, with more fields of numbers."""
    height, width, channels = samples.shape
    planes = [samples[..., n : n + 1] for n in range(channels)] if separate else [samples]
    strips = [
        _strip(plane[at : at + rows], depth, order, predictor)
        for plane in planes
        for at in range(0, height, rows)
    ]
    if compression == DEFLATE:
        strips = [zlib.compress(strip) for strip in strips]
    every: dict[int, Sequence[int]] = {
        256: [width],
        257: [height],
        258: [depth] * channels,
        259: [compression],
        262: [photometric],
        277: [channels],
        278: [rows],
        284: [2 if separate else 1],
        317: [2 if predictor else 1],
        279: [len(strip) for strip in strips],
        273: [8 + sum(len(strip) + len(strip) % 2 for strip in strips[:n]) for n in range(len(strips))],
    } | dict(fields or {})
    if samples.dtype.kind == "f":
        every[339] = [3] * channels
    body = b"".join(strip + bytes(len(strip) % 2) for strip in strips)
    start = 8 + len(body)
    at = start + 2 + 12 * len(every) + 4
    directory, contents = struct.pack(order + "H", len(every)), b""
    for tag, values in sorted(every.items()):
        kind = "I" if tag in (273, 279) else "H"
        content = struct.pack(f"{order}{len(values)}{kind}", *values)
        directory += struct.pack(order + "HHI", tag, 4 if kind == "I" else 3, len(values))
        inside = len(content) <= 4
        directory += content.ljust(4, b"\0") if inside else struct.pack(order + "I", at + len(contents))
        contents += b"" if inside else content
    signature = b"II*\0" if order == "<" else b"MM\0*"
    return signature + struct.pack(order + "I", start) + body + directory + bytes(4) + contents


def _strip(samples: NDArray[Any], depth: int, order: str, predictor: bool) -> bytes:
    if samples.dtype.kind == "f":
        return samples.astype(order + "f4").tobytes()
    if predictor:
        samples = np.concatenate([samples[:, :1], np.diff(samples, axis=1)], axis=1) % 2**depth
    return b"".join(packed_rows(samples, depth, order))


def bmp_of(
    samples: Samples,
    depth: int,
    *,
    masks: Sequence[int] = (),
    palette: bytes = b"",
    header_size: int = 40,
    top_down: bool = False,
) -> bytes:
    """A BMP of (height, width, channels) samples, their channels from blue to red."""
    height, width = samples.shape[:2]
    rows = [row + bytes(-len(row) % 4) for row in packed_rows(samples, depth if depth < 24 else 8, "<")]
    body = b"".join(rows if top_down else rows[::-1])
    header = struct.pack(
        "<IiiHHIIiiII",
        header_size,
        width,
        -height if top_down else height,
        1,
        depth,
        3 if masks else 0,
        len(body),
        2835,
        2835,
        0,
        0,
    )
    header += struct.pack(f"<{len(masks)}I", *masks)
    header += bytes(max(0, header_size - len(header))) + palette
    return b"BM" + struct.pack("<IHHI", 14 + len(header) + len(body), 0, 0, 14 + len(header)) + header + body


def gif_of(
    image: Image.Image,
    screen: tuple[int, int],
    place: tuple[int, int],
    *,
    transparent: int | None = None,
    disposal: int = 0,
    interlaced: bool = False,
) -> bytes:
    """A GIF of one frame of a palette image at a place of the screen."""
    whole = bytearray(file_of(image, "GIF", interlace=interlaced))
    at = whole.index(b",\0\0\0\0")
    whole[6:10] = struct.pack("<HH", *screen)
    whole[at + 1 : at + 5] = struct.pack("<HH", *place)
    flags = disposal << 2 | (transparent is not None)
    control = b"\x21\xf9\4" + bytes((flags, 0, 0, transparent or 0, 0))
    return bytes(whole[:at]) + control + bytes(whole[at:])


def animated_webp(image: Image.Image, canvas: tuple[int, int], place: tuple[int, int]) -> bytes:
    """A lossless WebP animation of two equal frames at an even place of the canvas, without alpha."""
    frame = b"".join(
        _three(number) for number in (place[0] // 2, place[1] // 2, image.width - 1, image.height - 1, 100)
    )
    frame += b"\0" + file_of(image, "WEBP", lossless=True)[12:]
    chunk = b"ANMF" + struct.pack("<I", len(frame)) + frame
    extended = b"VP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + _three(canvas[0] - 1) + _three(canvas[1] - 1)
    body = b"WEBP" + extended + b"ANIM" + struct.pack("<I", 6) + bytes(6) + 2 * chunk
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _three(number: int) -> bytes:
    return struct.pack("<I", number)[:3]
