"""Pictures for tests: smooth ones, as every codec likes them, and their files."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

from app.images.arrays import ImageArray


def photograph(width: int = 90, height: int = 60, seed: int = 0) -> Image.Image:
    """An RGB picture without symmetry: no two corners are alike, and no turn or flip leaves it as it was."""
    corners = np.random.RandomState(seed).randint(0, 256, (3, 2, 3), dtype=np.uint8)
    corners[0, 0], corners[-1, -1] = (250, 30, 30), (20, 40, 240)
    return Image.fromarray(corners).resize((width, height), Image.Resampling.BICUBIC)


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The picture as a file of a format by Pillow's name."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def opened(content: bytes) -> Image.Image:
    """The picture in a file, loaded."""
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def pixels_of(content: bytes) -> ImageArray:
    """The picture in a file as (height, width, 3) uint8."""
    return np.asarray(opened(content).convert("RGB"))


def announced_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header announces any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )
