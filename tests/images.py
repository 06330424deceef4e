"""Images for tests: smooth ones, as every codec likes them, and their files."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

from app.images.arrays import ImageArray

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def photograph(width: int = 90, height: int = 60, seed: int = 0) -> Image.Image:
    """An RGB image without symmetry: no two corners are alike, and no turn or flip leaves it as it was."""
    corners = np.random.RandomState(seed).randint(0, 256, (3, 2, 3), dtype=np.uint8)
    corners[0, 0], corners[-1, -1] = (250, 30, 30), (20, 40, 240)
    return Image.fromarray(corners).resize((width, height), Image.Resampling.BICUBIC)


def noise(height: int, width: int, seed: int) -> ImageArray:
    """(height, width, 3) uint8 without anything that a codec could use."""
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3), dtype=np.uint8)


def difference(one: ImageArray, other: ImageArray) -> float:
    """Mean absolute difference in grey levels."""
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The image as a file of a format by Pillow's name."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def opened(content: bytes) -> Image.Image:
    """The image in a file, loaded."""
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def array_of(content: bytes) -> ImageArray:
    """The image in a file as (height, width, 3) uint8."""
    return np.asarray(opened(content).convert("RGB"))


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def announced_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header announces any size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    return PNG_SIGNATURE + b"".join(png_chunk(*chunk) for chunk in chunks)


def jpeg_of_scans(count: int) -> bytes:
    """A progressive JPEG whose shortest scan is repeated: libjpeg goes over the whole image each time."""
    whole = file_of(Image.new("L", (2000, 2000), 128), "JPEG", progressive=True)
    scans = [part for part in whole[whole.index(b"\xff\xda") : -2].split(b"\xff\xda") if part]
    return whole[:-2] + (b"\xff\xda" + min(scans[1:], key=len)) * (count - len(scans)) + b"\xff\xd9"
