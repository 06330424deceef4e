"""PNG files: every chunk of the image checked, the rows counted, the rest passed over where it is broken."""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from app.errors import UnreadableImage
from app.images.formats import exif
from app.images.formats.opened import INVALID_DATA, OpenedImage, check_size, decode_tile
from app.images.png import SIGNATURE as SIGNATURE

MAX_CHUNKS = 100_000
"""Most chunks of a file: each is a turn of a loop in Python. A PNG of 32 MiB in chunks of 1 KiB stays
below."""
MAX_PROFILE_BYTES = 4 * 2**20
HARMLESS = frozenset(
    (
        b"acTL", b"bKGD", b"cHRM", b"cICP", b"cLLI", b"dSIG", b"eXIf", b"fcTL", b"fdAT", b"gAMA", b"gIFg",
        b"gIFx", b"hIST", b"iCCP", b"iTXt", b"mDCV", b"oFFs", b"pCAL", b"pHYs", b"sBIT", b"sCAL", b"sPLT",
        b"sRGB", b"sTER", b"tEXt", b"tIME", b"zTXt",
    )
)  # fmt: skip
"""Chunks that say nothing of the pixels of the first image; any other that is broken may have said
something."""

GREY, TRUECOLOUR, PALETTE = 0, 2, 3
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Of an interlaced image: the first column and row of each pass, and their steps (PNG 3rd edition, 8.2)."""
SAMPLES = {GREY: 1, TRUECOLOUR: 3, PALETTE: 1, 4: 2, 6: 4}

INFLATED = 2**18
"""Bytes that are unpacked at a time."""
STORED = 2**16 - 1
"""Most bytes of a stored block (RFC 1951, 3.2.4)."""
STREAM_START = b"\x78\x01"


@dataclass
class Structure:
    """The chunks of a PNG that matter, checked."""

    header: bytes = b""
    palette: bytes = b""
    transparency: bytes = b""
    data: list[memoryview] = field(default_factory=list)
    profile: bytes | None = None
    exif: bytes | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return int.from_bytes(self.header[:4], "big"), int.from_bytes(self.header[4:8], "big")

    @property
    def depth(self) -> int:
        """Bits a sample."""
        return self.header[8]

    @property
    def colour(self) -> int:
        """The colour type (PNG 3rd edition, 11.2.1)."""
        return self.header[9]


def open_png(data: bytes, _: int, max_pixels: int) -> OpenedImage:
    """Read the header of a PNG; of an animated one the default image, as readers do that know of none.

    Raises:
        UnreadableImage, ImageTooLarge.
    """
    structure = read_structure(data)
    check_size(*structure.size, max_pixels, "PNG")
    image = _decodable(structure)
    return OpenedImage(
        "PNG",
        image.size,
        lambda: _load(image, structure),
        exif.orientation(structure.exif),
        structure.profile,
    )


def read_structure(data: bytes) -> Structure:
    """Walk over the chunks.

    Raises:
        UnreadableImage: one that matters is missing, broken or cut short, or there are too many.
    """
    structure = Structure()
    complete = False
    for kind, content, sound in _chunks(data):
        if content is None:  # nothing behind it can be found
            break
        if kind == b"IDAT" and not complete:
            if not sound:
                raise UnreadableImage("the picture is damaged: the checksum of a PNG chunk is wrong")
            structure.data.append(content)
            continue
        complete = complete or bool(structure.data)
        if kind == b"IEND":
            break
        if not sound:
            if complete or (kind in HARMLESS and structure.header):
                continue
            raise UnreadableImage("the picture is damaged: the checksum of a PNG chunk is wrong")
        _take(structure, kind, bytes(content), complete)
    if not structure.header:
        raise UnreadableImage("the picture's header is damaged")
    if not structure.data:
        raise UnreadableImage("the picture is damaged or incomplete")
    return structure


def _take(structure: Structure, kind: bytes, content: bytes, complete: bool) -> None:
    """Keep a chunk that matters."""
    if not structure.header:
        if kind != b"IHDR" or len(content) != 13 or SAMPLES.get(content[9]) is None:
            raise UnreadableImage("the picture's header is damaged")
        structure.header = content
    elif kind == b"eXIf":
        structure.exif = content
    elif complete:
        return
    elif kind == b"PLTE":
        structure.palette = content
    elif kind == b"tRNS":
        structure.transparency = content
    elif kind == b"iCCP":
        structure.profile = _profile(content)


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview | None, bool]]:
    """(type, content, whether its checksum is right) of each chunk; no content where it is cut short."""
    view = memoryview(data)
    at = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 8 + length
        if end + 4 > len(data) or not kind.isalpha():
            yield kind, None, False
            return
        checksum = isal_zlib.crc32(view[at + 4 : end])
        yield kind, view[at + 8 : end], checksum == int.from_bytes(data[end : end + 4], "big")
        at = end + 4
    raise UnreadableImage("the picture is cut into too many pieces")


def _profile(content: bytes) -> bytes | None:
    """What an iCCP chunk holds; None where that is broken or too large."""
    name, _, packed = content.partition(b"\0")
    inflater = isal_zlib.decompressobj()
    try:
        profile = inflater.decompress(packed[1:], MAX_PROFILE_BYTES)
    except INVALID_DATA:  # a broken profile says nothing of the pixels
        return None
    return profile if inflater.eof and name else None


def _decodable(structure: Structure) -> PngImagePlugin.PngImageFile:
    """The image as Pillow opens it, of a file that holds nothing but what tells how to decode."""
    file = SIGNATURE + _chunk(b"IHDR", structure.header)
    if structure.colour == PALETTE:
        if not structure.palette:
            raise UnreadableImage("the picture is damaged: its palette is missing")
        file += _chunk(b"PLTE", structure.palette)
        if structure.transparency:
            file += _chunk(b"tRNS", structure.transparency)
    return PngImagePlugin.PngImageFile(io.BytesIO(file + _chunk(b"IDAT", b"")))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", isal_zlib.crc32(kind + content))
    )


def _load(image: PngImagePlugin.PngImageFile, structure: Structure) -> Image.Image:
    decode_tile(image, lambda _: _pieces(structure))
    key = structure.transparency
    if not key or structure.colour not in (GREY, TRUECOLOUR):
        return image
    samples = [int.from_bytes(key[at : at + 2], "big") for at in range(0, 2 * SAMPLES[structure.colour], 2)]
    if len(key) < 2 * len(samples):
        raise UnreadableImage("the picture is damaged: its transparent colour is cut short")
    transparent = _where(image, structure, [sample & (1 << structure.depth) - 1 for sample in samples])
    shown = _eight_bits(image).convert("RGBA")
    shown.putalpha(Image.fromarray(np.where(transparent, np.uint8(0), np.uint8(255))))
    return shown


def _eight_bits(image: Image.Image) -> Image.Image:
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image).astype(np.uint32) // 257).astype(np.uint8))


def _where(image: Image.Image, structure: Structure, key: list[int]) -> NDArray[np.bool_]:
    """Which pixels have the colour that is transparent, compared in all their bits."""
    found: NDArray[np.bool_]
    if structure.colour == GREY:
        factor = 255 // ((1 << structure.depth) - 1) if 1 < structure.depth < 8 else 1
        found = np.asarray(image) == key[0] * factor
    elif structure.depth == 8:
        found = (np.asarray(image) == key).all(axis=-1)
    else:
        lower = _decodable(structure)
        lower.tile = [lower.tile[0]._replace(args="RGB;16L")]  # of each sample the second byte, not the first
        decode_tile(lower, lambda _: _pieces(structure))
        high, low = np.array(key) >> 8, np.array(key) & 255
        found = (np.asarray(image) == high).all(axis=-1) & (np.asarray(lower) == low).all(axis=-1)
    return found


def _row_bytes(structure: Structure, width: int) -> int:
    return 1 + (width * SAMPLES[structure.colour] * structure.depth + 7) // 8


def _data_size(structure: Structure) -> int:
    """Bytes of the image data once it is unpacked (PNG 3rd edition, 7.2 and 8)."""
    width, height = structure.size
    if not structure.header[12]:
        return height * _row_bytes(structure, width)
    total = 0
    for column, row, across, down in PASSES:
        columns, rows = -(-(width - column) // across), -(-(height - row) // down)
        if columns > 0 and rows > 0:
            total += rows * _row_bytes(structure, columns)
    return total


def _pieces(structure: Structure) -> Iterator[bytes]:
    """The image data unpacked and checked, as stored blocks without an end, so that Pillow's decoder neither
    unpacks it a second time nor takes an early end for the last row. ISA-L is several times as fast as zlib.

    Raises:
        UnreadableImage: the data is broken, its checksum wrong, or it ends too early.
    """
    missing = _data_size(structure)
    inflater = isal_zlib.decompressobj()
    held = b""  # what is not given on until the checksum behind it is seen to be right
    prefix = STREAM_START
    try:
        for content in structure.data:
            packed: bytes | memoryview = content
            while not inflater.eof:
                unpacked = inflater.decompress(packed, INFLATED)
                packed = inflater.unconsumed_tail
                if (
                    missing == 0 and unpacked
                ):  # more than the image needs, which the chunks' checksums vouch for
                    yield prefix + _stored(held)
                    return
                if not unpacked and not packed:
                    break
                if held and unpacked:
                    yield prefix + _stored(held)
                    prefix = b""
                held = unpacked[:missing] or held
                missing -= len(unpacked[:missing])
    except INVALID_DATA as error:
        raise UnreadableImage("the picture is damaged: its data cannot be unpacked") from error
    if missing or not inflater.eof:
        raise UnreadableImage("the picture is damaged or incomplete")
    yield prefix + _stored(held)


def _stored(data: bytes) -> bytes:
    """Stored blocks of deflate, none of them the last (RFC 1951, 3.2.4)."""
    blocks: list[bytes] = []
    for at in range(0, len(data), STORED):
        block = data[at : at + STORED]
        blocks += (struct.pack("<BHH", 0, len(block), len(block) ^ 0xFFFF), block)
    return b"".join(blocks)
