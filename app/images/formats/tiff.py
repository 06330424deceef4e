"""TIFF files: the first image, by a directory rewritten to hold nothing but what tells how to decode."""

import io
import struct
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass

import numpy as np
from isal import isal_zlib
from PIL import Image, ImageOps, TiffImagePlugin

from app.errors import ImageTooLarge, UnreadableImage, UnsupportedImage
from app.images.formats.opened import INVALID_DATA, OpenedImage, check_size
from app.images.modes import grey_levels, simplified

BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">", b"II\0*": "<", b"MM*\0": ">"}
"""The first four bytes; the last two are written by mistake and read by everybody."""
BIG_SIGNATURES = (b"II+\0", b"MM\0+")

MAX_VALUES = 65_536
"""Most values of a field, which become a Python object each, and most strips, each of which takes memory."""
TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
"""Bytes of a value of each type (TIFF 6.0, section 2)."""
INTEGERS = {1: "B", 3: "H", 4: "I"}
SHORT, LONG = 3, 4

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
STRIP_OFFSETS, ORIENTATION, SAMPLES, ROWS_PER_STRIP, STRIP_SIZES = 273, 274, 277, 278, 279
PLANAR, PREDICTOR, COLOUR_MAP = 284, 317, 320
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_SIZES = 322, 323, 324, 325
EXTRA_SAMPLES, SAMPLE_FORMAT, SUBSAMPLING, PROFILE = 338, 339, 530, 34675
KEPT = frozenset(
    (
        WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP,
        STRIP_SIZES, PLANAR, 292, 293, PREDICTOR, COLOUR_MAP, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS,
        TILE_SIZES, 332, EXTRA_SAMPLES, SAMPLE_FORMAT, 347, *range(512, 522), 529, SUBSAMPLING, 531, 532,
    )
)  # fmt: skip
"""Fields that tell how to decode; Pillow looks into others, EXIF among them, and stumbles where they are
broken."""

RAW, DEFLATE, YCBCR, SEPARATE = 1, (8, 32946), 6, 2
MIN_IS_WHITE, MIN_IS_BLACK = 0, 1
SIGNED = 2
ASSOCIATED, UNASSOCIATED = 1, 2


@dataclass(frozen=True)
class Field:
    """One field of a directory: its type, how many values it has, and their bytes."""

    kind: int
    count: int
    content: bytes


class Directory:
    """The first directory of a TIFF (TIFF 6.0, section 2)."""

    def __init__(self, data: bytes) -> None:
        """Read it.

        Raises:
            UnreadableImage: it is not in the file, or has a field of too many values.
        """
        self.order = BYTE_ORDERS[data[:4]]
        self.fields: dict[int, Field] = {}
        if len(data) < 8:
            raise UnreadableImage("the picture's header is damaged")
        (start,) = struct.unpack_from(self.order + "I", data, 4)
        if start + 2 > len(data):
            raise UnreadableImage("the picture's header is damaged or missing")
        (count,) = struct.unpack_from(self.order + "H", data, start)
        for place in range(start + 2, min(start + 2 + 12 * count, len(data) - 11), 12):
            tag, kind, values = struct.unpack_from(self.order + "HHI", data, place)
            size = TYPE_SIZES.get(kind, 0) * values
            if (tag not in KEPT and tag not in (ORIENTATION, PROFILE)) or not size:
                continue
            if values > MAX_VALUES and tag != PROFILE:
                raise UnreadableImage("the TIFF has a directory field of too many values")
            at = place + 8 if size <= 4 else struct.unpack_from(self.order + "I", data, place + 8)[0]
            if at + size <= len(data):
                self.fields[tag] = Field(kind, values, data[at : at + size])
            elif tag in KEPT:
                raise UnreadableImage("the picture's header is damaged or incomplete")

    @property
    def tiled(self) -> bool:
        """Whether the image is cut into tiles and not into strips."""
        return TILE_OFFSETS in self.fields and STRIP_OFFSETS not in self.fields

    def copy(self) -> "Directory":
        """Another one with the same fields."""
        other = copy(self)
        other.fields = dict(self.fields)
        return other

    def integers(self, tag: int, *default: int) -> tuple[int, ...]:
        """The values of a field of whole numbers."""
        entry = self.fields.get(tag)
        if entry is None or entry.kind not in INTEGERS:
            return default
        return struct.unpack(f"{self.order}{entry.count}{INTEGERS[entry.kind]}", entry.content)

    def integer(self, tag: int, default: int) -> int:
        """The first value of a field of whole numbers."""
        return self.integers(tag, default)[0]

    def set_integers(self, tag: int, *values: int) -> None:
        """Replace a field."""
        kind = SHORT if max(values) < 2**16 else LONG
        content = struct.pack(f"{self.order}{len(values)}{INTEGERS[kind]}", *values)
        self.fields[tag] = Field(kind, len(values), content)

    def write(self, data: bytes) -> bytes:
        """A file of the same data whose only directory has the fields that are kept."""
        start = len(data) + len(data) % 2
        entries = sorted((tag, entry) for tag, entry in self.fields.items() if tag in KEPT)
        at = start + 2 + 12 * len(entries) + 4
        directory = struct.pack(self.order + "H", len(entries))
        contents = b""
        for tag, entry in entries:
            directory += struct.pack(self.order + "HHI", tag, entry.kind, entry.count)
            if len(entry.content) <= 4:
                directory += entry.content.ljust(4, b"\0")
            else:
                directory += struct.pack(self.order + "I", at + len(contents))
                contents += entry.content + bytes(len(entry.content) % 2)
        signature = b"II*\0" if self.order == "<" else b"MM\0*"
        header = signature + struct.pack(self.order + "I", start)
        return b"".join((header, data[8:].ljust(start - 8, b"\0"), directory, bytes(4), contents))


@dataclass(frozen=True)
class Pieces:
    """How the image is cut into strips or tiles."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    unpacked: tuple[int, ...]

    def part(self, start: int, count: int) -> "Pieces":
        """Some of them."""
        some = slice(start, start + count)
        return Pieces(self.offsets[some], self.sizes[some], self.unpacked[some])


def open_tiff(data: bytes, _: int, max_pixels: int) -> OpenedImage:
    """Read the first directory.

    Raises:
        UnreadableImage, UnsupportedImage, ImageTooLarge.
    """
    if data.startswith(BIG_SIGNATURES):
        raise UnsupportedImage("BigTIFF is not supported; save the picture as plain TIFF")
    directory = Directory(data)
    size = directory.integer(WIDTH, 0), directory.integer(HEIGHT, 0)
    if not all(size):
        raise UnreadableImage("the picture's header is damaged or incomplete")
    check_size(*size, max_pixels, "TIFF")
    if directory.integer(TILE_WIDTH, 1) * directory.integer(TILE_HEIGHT, 1) > max_pixels:
        raise ImageTooLarge(f"the TIFF has tiles of more than {max_pixels} pixels")
    _leave_out_unspecified(directory)
    pieces = _pieces(directory, len(data), *size)
    read = _grey_and_alpha(directory, data, pieces) or _plain(directory, data, pieces)

    def load() -> Image.Image:
        if directory.integer(COMPRESSION, RAW) in DEFLATE:
            _check_deflated(data, pieces)
        return read()

    profile = directory.fields.get(PROFILE)
    orientation = directory.integer(ORIENTATION, 1)
    return OpenedImage("TIFF", size, load, orientation, profile.content if profile else None)


def _leave_out_unspecified(directory: Directory) -> None:
    """Take away planes of their own that are said to be nothing in particular, which need not even be
    there."""
    extra = directory.integers(EXTRA_SAMPLES)
    left = directory.integer(SAMPLES, 1) - len(extra)
    if directory.integer(PLANAR, 1) == SEPARATE and extra and not any(extra) and left > 0:
        directory.set_integers(SAMPLES, left)
        for tag in (BITS, SAMPLE_FORMAT):
            if values := directory.integers(tag):
                directory.set_integers(tag, *values[:left])
        directory.fields.pop(EXTRA_SAMPLES)


def _plain(original: Directory, data: bytes, pieces: Pieces) -> Callable[[], Image.Image]:
    """What loads an image by Pillow, with what Pillow reads wrongly rewritten before or put right behind
    it."""
    directory = original.copy()
    deep = max(directory.integers(BITS, 1))
    negative = directory.integer(PHOTOMETRIC, MIN_IS_WHITE) == MIN_IS_WHITE and deep > 8
    if negative:
        directory.set_integers(PHOTOMETRIC, MIN_IS_BLACK)
    unsigned = directory.integer(SAMPLE_FORMAT, 1) == 1
    if deep == 32 and unsigned:
        directory.set_integers(SAMPLE_FORMAT, SIGNED)  # which Pillow has in both byte orders
    raw = directory.integer(COMPRESSION, RAW) == RAW
    swapped = not raw and directory.order == ">"  # libtiff gives the machine's order, which Pillow forgets
    separate = directory.integer(PLANAR, 1) == SEPARATE
    plainly = raw and directory.integer(FILL_ORDER, 1) == 1
    if plainly and (separate or directory.integer(PHOTOMETRIC, 0) == YCBCR):
        data = _deflated(directory, data, pieces)  # so that libtiff reads it, and not Pillow
    image = TiffImagePlugin.TiffImageFile(io.BytesIO(directory.write(data)))

    def load() -> Image.Image:
        image.load()
        grey: Image.Image = image
        if image.mode in ("I", "F") and deep == 32:
            values = np.asarray(image).byteswap() if swapped else np.asarray(image)
            grey = grey_levels(values.view(np.uint32) if image.mode == "I" and unsigned else values)
        return ImageOps.invert(simplified(grey)) if negative else grey

    return load


def _grey_and_alpha(directory: Directory, data: bytes, pieces: Pieces) -> Callable[[], Image.Image] | None:
    """What loads an image of grey and alpha of a kind that Pillow does not know, as grey ones that it does:
    one for each plane, or one of twice the width. None for any other image."""
    photometric, deep = directory.integer(PHOTOMETRIC, MIN_IS_WHITE), max(directory.integers(BITS, 1))
    separate = directory.integer(PLANAR, 1) == SEPARATE
    if directory.integer(SAMPLES, 1) != 2 or photometric not in (MIN_IS_WHITE, MIN_IS_BLACK):
        return None
    if deep == 8 and photometric == MIN_IS_BLACK and not separate:
        return None
    half = len(pieces.offsets) // 2 if separate else len(pieces.offsets)
    loads = [
        _plain(_one_plane(directory, pieces, half, number, deep), data, pieces.part(number * half, half))
        for number in range(2 if separate else 1)
    ]

    def load() -> Image.Image:
        planes = [np.asarray(simplified(one())) for one in loads]
        grey, alpha = planes if separate else (planes[0][:, ::2], planes[0][:, 1::2])
        grey = np.ascontiguousarray(255 - grey if photometric == MIN_IS_WHITE else grey)
        kind = directory.integer(EXTRA_SAMPLES, 0)
        if kind not in (ASSOCIATED, UNASSOCIATED):
            return Image.fromarray(grey)
        bands = Image.fromarray(grey), Image.fromarray(np.ascontiguousarray(alpha))
        return Image.merge("La" if kind == ASSOCIATED else "LA", bands)

    return load


def _one_plane(directory: Directory, pieces: Pieces, half: int, number: int, deep: int) -> Directory:
    plane = directory.copy()
    for tag, value in ((SAMPLES, 1), (BITS, deep), (PHOTOMETRIC, MIN_IS_BLACK), (PLANAR, 1)):
        plane.set_integers(tag, value)
    plane.fields.pop(EXTRA_SAMPLES, None)
    plane.fields.pop(SAMPLE_FORMAT, None)
    if directory.integer(PLANAR, 1) == SEPARATE:
        part = pieces.part(number * half, half)
        plane.set_integers(TILE_OFFSETS if directory.tiled else STRIP_OFFSETS, *part.offsets)
        if part.sizes:
            plane.set_integers(TILE_SIZES if directory.tiled else STRIP_SIZES, *part.sizes)
    elif directory.integer(PREDICTOR, 1) != 1:
        raise UnsupportedImage("a TIFF of grey and alpha with a predictor is not supported")
    else:
        plane.set_integers(WIDTH, 2 * directory.integer(WIDTH, 0))
        if directory.tiled:
            plane.set_integers(TILE_WIDTH, 2 * directory.integer(TILE_WIDTH, 0))
    return plane


def _pieces(directory: Directory, length: int, width: int, height: int) -> Pieces:
    """Where the strips or tiles lie, and how large they are.

    Raises:
        UnreadableImage: there are too few, or one lies outside the file.
    """
    tiled = directory.tiled
    planes = directory.integer(SAMPLES, 1) if directory.integer(PLANAR, 1) == SEPARATE else 1
    if not 1 <= planes <= 16:
        raise UnreadableImage("the picture's header is damaged")
    if tiled:
        across, down = directory.integer(TILE_WIDTH, 0), directory.integer(TILE_HEIGHT, 0)
        if not across or not down:
            raise UnreadableImage("the picture's header is damaged")
        count = -(-width // across) * -(-height // down)
        sides = [(across, down)] * count
    else:
        rows = min(directory.integer(ROWS_PER_STRIP, height) or height, height)
        count = -(-height // rows)
        sides = [(width, min(rows, height - number * rows)) for number in range(count)]
    if count * planes > MAX_VALUES:
        raise UnreadableImage("the TIFF has a directory field of too many values")
    offsets = directory.integers(TILE_OFFSETS if tiled else STRIP_OFFSETS)[: count * planes]
    sizes = directory.integers(TILE_SIZES if tiled else STRIP_SIZES)[: count * planes]
    if len(offsets) < count * planes:
        raise UnreadableImage("the picture is incomplete: strips of the TIFF are missing")
    bits = sum(directory.integers(BITS, 1)) if planes == 1 else max(directory.integers(BITS, 1))
    if planes == 1 and len(directory.integers(BITS, 1)) == 1:
        bits *= directory.integer(SAMPLES, 1)
    unpacked = [_piece_bytes(directory, *side, bits) for side in sides] * planes
    raw = directory.integer(COMPRESSION, RAW) == RAW
    for offset, size in zip(offsets, unpacked if raw else sizes, strict=False):
        if offset + size > length:
            raise UnreadableImage("the picture is damaged or incomplete")
    directory.set_integers(TILE_OFFSETS if tiled else STRIP_OFFSETS, *offsets)
    if sizes:
        directory.set_integers(TILE_SIZES if tiled else STRIP_SIZES, *sizes)
    return Pieces(offsets, sizes, tuple(unpacked))


def _piece_bytes(directory: Directory, width: int, height: int, bits: int) -> int:
    if directory.integer(PHOTOMETRIC, 0) == YCBCR and directory.integer(PLANAR, 1) != SEPARATE:
        across, down = (*directory.integers(SUBSAMPLING, 2, 2), 1)[:2]
        if across not in (1, 2, 4) or down not in (1, 2, 4):
            raise UnreadableImage("the picture's header is damaged")
        blocks = -(-width // across) * -(-height // down)
        return blocks * (across * down + 2) * directory.integer(BITS, 8) // 8
    return (width * bits + 7) // 8 * height


def _deflated(directory: Directory, data: bytes, pieces: Pieces) -> bytes:
    """The data with its strips packed behind it, and the directory changed accordingly.

    Raises:
        UnreadableImage: a strip ends too early.
    """
    packed = []
    for offset, size in zip(pieces.offsets, pieces.unpacked, strict=True):
        if offset + size > len(data):
            raise UnreadableImage("the picture is damaged or incomplete")
        packed.append(isal_zlib.compress(data[offset : offset + size], 0))
    ends = np.cumsum([len(data), *map(len, packed)])
    tiled = directory.tiled
    directory.set_integers(TILE_OFFSETS if tiled else STRIP_OFFSETS, *ends[:-1].tolist())
    directory.set_integers(TILE_SIZES if tiled else STRIP_SIZES, *map(len, packed))
    directory.set_integers(COMPRESSION, DEFLATE[0])
    directory.fields.pop(PREDICTOR, None)
    return b"".join((data, *packed))


def _check_deflated(data: bytes, pieces: Pieces) -> None:
    """Whether each strip unpacks to all its bytes and has the right checksum, at which libtiff does not look.

    Raises:
        UnreadableImage: one does not.
    """
    for number, (offset, size) in enumerate(zip(pieces.offsets, pieces.unpacked, strict=True)):
        end = offset + pieces.sizes[number] if number < len(pieces.sizes) else len(data)
        inflater = isal_zlib.decompressobj()
        try:
            unpacked = inflater.decompress(memoryview(data)[offset:end], size + 1)
            if len(unpacked) == size and not inflater.eof:
                inflater.decompress(inflater.unconsumed_tail, 1)
        except INVALID_DATA as error:
            raise UnreadableImage("the picture is damaged: its data cannot be unpacked") from error
        if len(unpacked) < size or (len(unpacked) == size and not inflater.eof):
            raise UnreadableImage("the picture is damaged or incomplete")
