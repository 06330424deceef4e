"""JPEG files: decoded without their end mark, so that no missing data passes for grey."""

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import JpegImagePlugin

from app.errors import UnreadableImage
from app.images.formats import exif
from app.images.formats.opened import Box, Decoder, OpenedImage, check_size, decode_tile

SIGNATURE = b"\xff\xd8\xff"

MAX_SCANS = 64
"""Most scans of a JPEG. Each one costs a pass over all blocks of the image and may be a few dozen bytes
long; encoders write one to twenty."""
MAX_MARKERS = 10_000
"""Most segments of a JPEG that are looked at; the largest photographs have a few hundred."""

FIRST_PIECE, LARGEST_PIECE = 2**13, 2**17
"""Bytes in which a marker is looked for at once: pieces stay in the cache."""

END_OF_IMAGE, START_OF_SCAN, FILL, FIRST_RESTART = 0xD9, 0xDA, 0xFF, 0xD0
STANDALONE = frozenset((0x01, 0xD8, *range(0xD0, 0xD8)))
"""Markers without a length (ITU T.81, table B.1)."""
FRAMES = frozenset((0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF))
FOR_PILLOW = frozenset((START_OF_SCAN,))
"""Segments that Pillow needs beside the frame. It would look into others for a resolution or for more images,
and stumble where they are broken; libjpeg sees them all."""
HUFFMAN_TABLES, RESTART_INTERVAL = 0xC4, 0xDD
EXIF_SEGMENT, PROFILE_SEGMENT, PROFILE_PREFIX = 0xE1, 0xE2, b"ICC_PROFILE\0"
PROGRESSIVE = frozenset((0xC2, 0xCA))
FIRST_ARITHMETIC = 0xC9
IS_MARKER = np.array([code not in (0, FILL, *range(0xD0, 0xD8)) for code in range(256)])
"""What makes a marker of the 0xff before it: in compressed data a zero follows, or a restart (ITU T.81,
B.1.1)."""

COEFFICIENTS = 64
ONES = b"\xff\0"
"""Eight one bits as compressed data has them. A decoder between scans skips them; within a scan no Huffman
code consists of ones only (ITU T.81, C.2), so that they lead it nowhere."""
AHEAD = 8
"""Bytes that libjpeg may want to have behind the last bit of a scan: its buffer holds so many."""


LONGEST_CODE = 16
PATTERNS = sorted(range(1, 255), key=lambda byte: -byte.bit_count())[:20]
"""Bytes that are tried for data that goes on, those with the longest codes first."""


class Scan(NamedTuple):
    """One scan: its components, its band of coefficients, the bits it adds, where its data lies, and how many
    units come between restarts (0: there are none)."""

    components: tuple[int, ...]
    first: int
    last: int
    high: int
    low: int
    start: int
    end: int
    interval: int


@dataclass
class Structure:
    """Markers of a JPEG up to the end of its first image."""

    frame: int = 0
    components: dict[int, tuple[int, int]] = field(default_factory=dict)
    size: tuple[int, int] = (0, 0)
    scans: list[Scan] = field(default_factory=list)
    interval: int = 0
    tables: dict[int, bytes] = field(default_factory=dict)
    last_table: bytes = b""
    exif: bytes | None = None
    profile_parts: list[bytes] = field(default_factory=list)
    header: bytearray = field(default_factory=lambda: bytearray(b"\xff\xd8"))

    @property
    def in_one_scan(self) -> bool:
        """Whether libjpeg decodes row by row; otherwise it reads all scans first."""
        return self.frame not in PROGRESSIVE and len(self.scans[0].components) == len(self.components)

    @property
    def profile(self) -> bytes | None:
        """The colour profile, put together from its numbered parts (ICC.1:2022, B.4)."""
        parts = sorted(self.profile_parts)
        if not parts or any(part[:2] != bytes((n, len(parts))) for n, part in enumerate(parts, start=1)):
            return None
        return b"".join(part[2:] for part in parts)


def open_jpeg(data: bytes, max_pixels: int, _: int) -> OpenedImage:
    """Read the header of a JPEG, or of the first image of an MPO.

    Raises:
        UnreadableImage, ImageTooLarge.
    """
    structure = read_structure(data)
    check_size(*structure.size, max_pixels, "JPEG")
    if not structure.scans:
        raise UnreadableImage("the picture is damaged or incomplete")
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(structure.header))

    def load() -> JpegImagePlugin.JpegImageFile:
        _check_coverage(structure)
        decode_tile(image, lambda decoder: _pieces(decoder, data, structure))
        return image

    def draft(size: tuple[int, int]) -> Box | None:
        drafted = image.draft(None, size)
        return None if drafted is None else drafted[1]

    return OpenedImage(
        "JPEG", structure.size, load, exif.orientation(structure.exif), structure.profile, draft
    )


def read_structure(data: bytes) -> Structure:
    """Walk from marker to marker as libjpeg does, up to the end of the image or of the file.

    Raises:
        UnreadableImage: there are too many markers or scans.
    """
    structure = Structure()
    values = np.frombuffer(data, np.uint8)
    at = 2
    for _ in range(MAX_MARKERS):
        found = _next_marker(data, values, at)
        if found is None or data[found + 1] == END_OF_IMAGE:
            return structure
        code, at = data[found + 1], found + 2
        if code in STANDALONE:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        content = data[at + 2 : at + length]
        if not structure.scans and (code in FOR_PILLOW or code in FRAMES):
            structure.header += b"\xff%c" % code + data[at : at + length]
        at += length
        if code == EXIF_SEGMENT and content.startswith(exif.PREFIX) and structure.exif is None:
            structure.exif = content
        elif code == PROFILE_SEGMENT and content.startswith(PROFILE_PREFIX) and not structure.scans:
            structure.profile_parts.append(content[len(PROFILE_PREFIX) :])
        elif code == HUFFMAN_TABLES and not structure.scans:
            _read_tables(structure, content)
        elif code == RESTART_INTERVAL:
            structure.interval = int.from_bytes(content[:2], "big")
        elif code in FRAMES and not structure.frame:
            _read_frame(structure, code, content)
        elif code == START_OF_SCAN:
            if len(structure.scans) == MAX_SCANS:
                raise UnreadableImage(f"the JPEG has more than {MAX_SCANS} scans")
            found = _next_marker(data, values, at)
            end = len(data) if found is None else found
            _read_scan(structure, content, at, end)
            at = end
    raise UnreadableImage(f"the JPEG has more than {MAX_MARKERS} segments")


def _next_marker(data: bytes, values: NDArray[np.uint8], at: int) -> int | None:
    """The place of the first marker from `at` on. NumPy lets go of the interpreter lock."""
    if data[at : at + 1] == b"\xff" and at + 1 < len(data) and IS_MARKER[data[at + 1]]:
        return at
    size = FIRST_PIECE
    while at < len(data) - 1:
        piece = values[at : at + size + 1]
        places = np.flatnonzero(piece[:-1] == FILL)
        places = places[IS_MARKER[piece[places + 1]]]
        if places.size:
            return at + int(places[0])
        at += size
        size = min(4 * size, LARGEST_PIECE)
    return None


def _data_end(data: bytes, scan: Scan) -> int:
    """Where the data of a scan ends, without fill bytes or half of a mark."""
    end = scan.end
    while end > scan.start and data[end - 1] == FILL:
        end -= 1
    return end


def _read_tables(structure: Structure, content: bytes) -> None:
    """Keep the Huffman tables of AC coefficients (ITU T.81, B.2.4.2)."""
    at = 0
    while at + 17 <= len(content):
        end = at + 17 + sum(content[at + 1 : at + 17])
        if content[at] >> 4:
            structure.tables[content[at] & 15] = content[at + 1 : end]
        at = end


def _read_frame(structure: Structure, code: int, content: bytes) -> None:
    """ITU T.81, B.2.2."""
    if len(content) < 6 or len(content) < 6 + 3 * content[5]:
        raise UnreadableImage("the picture's header is damaged")
    structure.frame = code
    structure.size = int.from_bytes(content[3:5], "big"), int.from_bytes(content[1:3], "big")
    for place in range(6, 6 + 3 * content[5], 3):
        structure.components[content[place]] = content[place + 1] >> 4, content[place + 1] & 15


def _read_scan(structure: Structure, content: bytes, start: int, end: int) -> None:
    """ITU T.81, B.2.3."""
    count = content[0] if content else 0
    if not structure.frame or not 1 <= count <= 4 or len(content) < 4 + 2 * count:
        raise UnreadableImage("the picture's header is damaged")
    first, last, bits = content[1 + 2 * count : 4 + 2 * count]
    components = tuple(content[1 : 1 + 2 * count : 2])
    if not structure.scans:
        structure.last_table = structure.tables.get(content[2 * count] & 15, b"")
    structure.scans.append(
        Scan(components, first, last, bits >> 4, bits & 15, start, end, structure.interval)
    )


def _check_coverage(structure: Structure) -> None:
    """Whether the scans bring every coefficient of every component down to its last bit.

    A file cut between two scans decodes to a coarse image, and nothing else in it tells.
    """
    if structure.frame not in PROGRESSIVE:
        missing = structure.components.keys() - {name for scan in structure.scans for name in scan.components}
        if missing:
            raise UnreadableImage("the picture is incomplete: scans of the JPEG are missing")
        return
    lowest = {name: np.full(COEFFICIENTS, 16) for name in structure.components}
    for scan in structure.scans:
        for name in scan.components:
            if name in lowest:
                band = lowest[name][scan.first : scan.last + 1]
                np.minimum(band, scan.low, out=band)
    if any(bits.any() for bits in lowest.values()):
        raise UnreadableImage("the picture is incomplete: scans of the JPEG are missing")


def _pieces(decoder: Decoder, data: bytes, structure: Structure) -> Iterator[bytes | memoryview]:
    """The data without its end mark, which makes libjpeg fill with grey what is missing; with several scans
    it is given once they have all been seen to be complete."""
    view = memoryview(data)
    if structure.in_one_scan and structure.frame < FIRST_ARITHMETIC:
        yield view[: _data_end(data, structure.scans[0])]
        yield _endless(structure.last_table) or ONES * AHEAD
        return
    if structure.frame >= FIRST_ARITHMETIC:  # its decoder cannot wait, and may leave out zeros at the end
        yield view[: structure.scans[-1].end + 2]
        return
    at = 0
    for scan in structure.scans:
        yield view[at : _data_end(data, scan)]
        _check_scan(decoder, data, structure, scan)
        at = scan.end
    yield b"\xff\xd9"


@lru_cache(maxsize=64)
def _endless(table: bytes) -> bytes | None:
    """Bytes to put behind the data of a scan that lead no block to its end: from any bit of them on, they are
    codes of coefficients. Where data is missing, a decoder waits for more when it has read them.

    Args:
        table: the Huffman table of the last block, as a file has it.

    Returns:
        AHEAD bytes; None for a table that has none such among those that are tried.
    """
    codes: dict[tuple[int, int], int] = {}
    code, at = 0, LONGEST_CODE
    for length in range(1, LONGEST_CODE + 1):
        for symbol in table[at : at + table[length - 1]] if table else b"":
            codes[length, code] = symbol
            code += 1
        at += table[length - 1] if table else 0
        code <<= 1
    for pattern in PATTERNS:
        if all(_goes_on(codes, pattern, start) for start in range(8)):
            return bytes((pattern,)) * AHEAD
    return None


def _goes_on(codes: dict[tuple[int, int], int], pattern: int, start: int) -> bool:
    """Whether the repeated byte, read from a bit on, has no code that ends a block, and not enough to fill
    one."""
    at, passed = start, 0
    while at < 8 * AHEAD:
        code = 0
        for length in range(1, LONGEST_CODE + 1):
            code = code << 1 | pattern >> 7 - (at + length - 1) % 8 & 1
            symbol = codes.get((length, code))
            if symbol is not None:
                break
        else:
            return False
        run, size = symbol >> 4, symbol & 15
        if not size and run != 15:
            return False
        at, passed = at + length + size, passed + run + 1
    return passed <= COEFFICIENTS // 2


def _check_scan(decoder: Decoder, data: bytes, structure: Structure, scan: Scan) -> None:
    """Whether libjpeg has left the scan whose data it was given. Between scans it skips whatever comes;
    within one it takes nothing until it has AHEAD bytes.

    Raises:
        UnreadableImage: it waits for more.
    """
    if scan.interval:  # where a restart is missing, libjpeg looks for one, as between scans
        values = np.frombuffer(data, np.uint8)[scan.start : scan.end]
        restarts = int(np.count_nonzero((values[:-1] == FILL) & (values[1:] & 0xF8 == FIRST_RESTART)))
        if restarts < (_units(structure, scan) - 1) // scan.interval:
            raise UnreadableImage("the picture is damaged or incomplete")
    if structure.frame in PROGRESSIVE and scan.first == 0 and scan.high:  # one plain bit for each block
        bits = 8 * (scan.end - scan.start - data.count(ONES, scan.start, scan.end))
        if bits < _units(structure, scan) * _blocks(structure, scan):
            raise UnreadableImage("the picture is damaged or incomplete")
        return
    decoder.feed(ONES * AHEAD)
    for _ in range(AHEAD + 1):
        if decoder.left:
            raise UnreadableImage("the picture is damaged or incomplete")
        decoder.feed(ONES)
    if decoder.left:
        raise UnreadableImage("the picture is damaged or incomplete")


def _units(structure: Structure, scan: Scan) -> int:
    """Units in which a scan is coded: blocks of 8 x 8, or if it has several components, what each has of the
    smallest area that they share (ITU T.81, A.2)."""
    width, height = structure.size
    widest = max(across for across, _ in structure.components.values())
    highest = max(down for _, down in structure.components.values())
    if len(scan.components) > 1:
        return _ceil(width, 8 * widest) * _ceil(height, 8 * highest)
    across, down = structure.components.get(scan.components[0], (widest, highest))
    return _ceil(_ceil(width * across, widest), 8) * _ceil(_ceil(height * down, highest), 8)


def _blocks(structure: Structure, scan: Scan) -> int:
    """Blocks in such a unit."""
    if len(scan.components) == 1:
        return 1
    return sum(math.prod(structure.components.get(name, (1, 1))) for name in scan.components)


def _ceil(number: int, divisor: int) -> int:
    return -(-number // divisor) if divisor else 0
