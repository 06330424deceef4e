"""Decompression bombs: checks of an image file before and while Pillow reads it, so that no file costs more
than its size and its pixels justify."""

import io
import re
import struct
from collections.abc import Iterator

import numpy as np

from app.errors import ImageTooLarge, UnreadableImage, UnsupportedImage

MAX_READS = 200_000
"""Most reads of one file. Pillow's parsers are loops in Python that read a piece at a time: a file of
millions of empty pieces would keep one busy for minutes. A PNG of 32 MiB in chunks of 1 KiB stays below."""

MAX_SCANS = 64
"""Most scans of a JPEG. Each one costs a pass over all blocks of the image and may be a few dozen bytes
long; encoders write one to twenty."""

MAX_VALUES = 65_536
"""Most values in a field of a TIFF directory, which become a Python object each, and most of its strips."""

JPEG_SIGNATURE = b"\xff\xd8\xff"
MAX_MARKERS = 10_000
"""Most segments of a JPEG that are looked at; the largest photographs have a few hundred."""

WINDOW = 2**20
PIECE = 2**17

START_OF_SCAN = b"\xff\xda"
MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)
"""A JPEG marker but for restarts: in compressed data 0xff is followed by a zero (ITU T.81, B.1.1)."""

TIFF_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
BIG_TIFF_SIGNATURES = (b"II+\0", b"MM\0+")
BYTES, TEXT, SHORT, UNDEFINED = 1, 2, 3, 7
"""Types of TIFF fields (TIFF 6.0, section 2); the values of others become numbers one by one."""
STRIP_FIELDS = frozenset((273, 279, 324, 325))
TILE_WIDTH, TILE_LENGTH = 322, 323


def image_file(data: bytes) -> io.BytesIO:
    """The bytes of an image file as a file object for Pillow, which can be read from only MAX_READS times.

    Fewer bytes than that are not watched: they cannot be cut into more pieces.
    """
    return _CountedFile(data) if len(data) > MAX_READS else io.BytesIO(data)


class _CountedFile(io.BytesIO):
    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._reads_left = MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as BytesIO does.

        Raises:
            UnreadableImage: it has been read from too often.
        """
        self._reads_left -= 1
        if self._reads_left < 0:
            raise UnreadableImage("the picture is cut into too many pieces")
        return super().read(size)


def screen(data: bytes, max_pixels: int) -> None:
    """Refuse a file that is built so that its decoding costs out of all proportion.

    Raises:
        UnreadableImage, UnsupportedImage, ImageTooLarge.
    """
    if data.startswith(JPEG_SIGNATURE):
        # Of most files this is all. Some have something behind the image: motion photos have a film there.
        if _occurrences(data, START_OF_SCAN) > MAX_SCANS:
            _screen_scans(data)
    elif data.startswith(BIG_TIFF_SIGNATURES):
        raise UnsupportedImage("BigTIFF is not supported; save the picture as plain TIFF")
    elif data[:4] in TIFF_BYTE_ORDERS:
        _screen_tiff(data, max_pixels)


def _occurrences(data: bytes, pair: bytes) -> int:
    """How often a pair of different bytes stands in a file: three to ten times as fast as bytes.count, and
    with the interpreter's lock released. A piece at a time stays in the cache."""
    values = np.frombuffer(data, np.uint8)
    found = 0
    for at in range(0, len(data), PIECE):
        piece = values[at : at + PIECE + 1]
        found += int(np.count_nonzero((piece[:-1] == pair[0]) & (piece[1:] == pair[1])))
    return found


def _screen_scans(data: bytes) -> None:
    """Count the scans as libjpeg meets them, from marker to marker up to the end of the image."""
    at = len(START_OF_SCAN)
    scans = 0
    for _ in range(MAX_MARKERS):
        found = _next_marker(data, at)
        if found is None or found[1] == b"\xd9":
            return
        at = found.end()
        scans += found[1] == b"\xda"
        if scans > MAX_SCANS:
            raise UnreadableImage(f"the JPEG has more than {MAX_SCANS} scans")
        if found[1] not in (b"\x01", b"\xd8"):  # these two stand alone; a length follows any other
            at += int.from_bytes(data[at : at + 2], "big")
    raise UnreadableImage(f"the JPEG has more than {MAX_MARKERS} segments")


def _next_marker(data: bytes, at: int) -> re.Match[bytes] | None:
    """The first marker from `at` on. A search holds the interpreter lock, so each covers a window only."""
    while at < len(data):
        found = MARKER.search(data, at, at + WINDOW + 1)
        if found is not None:
            return found
        at += WINDOW
    return None


def _screen_tiff(data: bytes, max_pixels: int) -> None:
    """Look at the first directory: libtiff takes memory for a whole tile and Pillow for every strip, whatever
    the size of the image."""
    tile = {TILE_WIDTH: 1, TILE_LENGTH: 1}
    for tag, kind, count, value in _directory(data):
        if count > MAX_VALUES and (tag in STRIP_FIELDS or kind not in (BYTES, TEXT, UNDEFINED)):
            raise UnreadableImage("the TIFF has a directory field of too many values")
        if tag in tile:
            tile[tag] = max(tile[tag], value)
    if tile[TILE_WIDTH] * tile[TILE_LENGTH] > max_pixels:
        raise ImageTooLarge(f"the TIFF has tiles of more than {max_pixels} pixels")


def _directory(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """(tag, type, count, value or offset) of each field of the first directory (TIFF 6.0, section 2)."""
    order = TIFF_BYTE_ORDERS[data[:4]]
    try:
        (offset,) = struct.unpack_from(order + "I", data, 4)
        (fields,) = struct.unpack_from(order + "H", data, offset)
    except struct.error:  # Pillow will say what is wrong with it
        return
    at = offset + 2
    for place in range(at, min(at + 12 * fields, len(data) - 11), 12):
        tag, kind, count, value = struct.unpack_from(order + "HHII", data, place)
        if kind == SHORT and count == 1:
            (value,) = struct.unpack_from(order + "H", data, place + 8)
        yield tag, kind, count, value
