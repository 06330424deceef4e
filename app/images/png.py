"""PNG encoder: one image array -> file, more quickly than Pillow does it."""

import struct

import numpy as np
from isal import isal_zlib

from app.images.arrays import ImageArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TRUECOLOUR = 2
FILTER_SUB = 1
LEVEL = 1


def encode_png(image: ImageArray) -> bytes:
    """A PNG file of (height, width, 3) uint8.

    Every row gets the filter Sub, which is one NumPy subtraction, and ISA-L compresses them, which takes a
    third of zlib's time at its fastest level.
    """
    height, width, _ = image.shape
    flat = image.reshape(height, width * 3)
    rows = np.empty((height, 1 + width * 3), np.uint8)
    rows[:, 0] = FILTER_SUB
    rows[:, 1:4] = flat[:, :3]
    np.subtract(flat[:, 3:], flat[:, :-3], out=rows[:, 4:])
    header = struct.pack(">IIBBBBB", width, height, 8, TRUECOLOUR, 0, 0, 0)
    data = isal_zlib.compress(rows.data, LEVEL)
    return b"".join((SIGNATURE, *_chunk(b"IHDR", header), *_chunk(b"IDAT", data), *_chunk(b"IEND", b"")))


def _chunk(kind: bytes, data: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    checksum = isal_zlib.crc32(data, isal_zlib.crc32(kind))
    return struct.pack(">I", len(data)), kind, data, struct.pack(">I", checksum)
