"""HEIF files, HEIC among them, and AVIF, which is built in the same way: screened by their boxes."""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from pi_heif import HeifImageFile
from PIL import AvifImagePlugin, Image, ImageFile

from app.errors import ImageTooLarge, UnreadableImage
from app.images.formats import exif
from app.images.formats.opened import OpenedImage, check_size

BRANDS = frozenset(
    (
        b"avif",
        b"avis",
        b"heic",
        b"heix",
        b"heim",
        b"heis",
        b"hevc",
        b"hevx",
        b"hevm",
        b"hevs",
        b"mif1",
        b"msf1",
    )
)
AVIF_BRANDS = (b"avif", b"avis")
NEUTRAL_BRANDS = (b"mif1", b"msf1")

MAX_BOXES = 20_000
"""Most boxes that are looked at; a telephone's photograph has a few hundred, one or two for each tile."""
MAX_DEPTH = 8
MAX_TILES = 4096
WORK = 4
"""How many times the allowed pixels all tiles together may have: auxiliary images and a margin are among
them."""

CONTAINERS = {b"meta": 4, b"iprp": 0}
"""Boxes made of boxes -> how many bytes stand before the first (ISO/IEC 14496-12)."""


@dataclass
class Structure:
    """What the boxes announce."""

    brands: list[bytes] = field(default_factory=list)
    properties: list[tuple[bytes, bytes]] = field(default_factory=list)
    owned: dict[int, list[int]] = field(default_factory=dict)
    derived: list[int] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    coded_sizes: list[tuple[int, int]] = field(default_factory=list)
    av1: bool = False


def is_heif(data: bytes) -> bool:
    """Whether the file is HEIF or AVIF by its first box."""
    return data[4:8] == b"ftyp" and data[8:12] in BRANDS


def open_heif(data: bytes, _: int, max_pixels: int) -> OpenedImage:
    """Read the header of the primary image.

    Raises:
        UnreadableImage, ImageTooLarge.
    """
    structure = read_structure(data)
    major = data[8:12]
    avif = major in AVIF_BRANDS or (
        major in NEUTRAL_BRANDS and (structure.av1 or any(brand in AVIF_BRANDS for brand in structure.brands))
    )
    kind = "AVIF" if avif else "HEIF"
    for size in structure.sizes:
        check_size(*size, max_pixels, kind)
    for size in structure.coded_sizes:  # in whole blocks, and tiles go over the edge
        check_size(*size, 2 * max_pixels, kind)
    _check_tiles(structure, max_pixels)
    return _open_avif(data, max_pixels) if avif else _open_heic(data, max_pixels)


def _open_avif(data: bytes, max_pixels: int) -> OpenedImage:
    image = AvifImagePlugin.AvifImageFile(io.BytesIO(data))
    check_size(*image.size, max_pixels, "AVIF")

    def load() -> Image.Image:
        image.load()
        return image

    return OpenedImage(
        "AVIF", image.size, load, exif.orientation(image.info.get("exif")), image.info.get("icc_profile")
    )


def _open_heic(data: bytes, max_pixels: int) -> OpenedImage:
    image: ImageFile.ImageFile = HeifImageFile(io.BytesIO(data))
    check_size(*image.size, max_pixels, "HEIF")

    def load() -> Image.Image:
        image.load()
        return image

    # libheif has turned it by the file's own fields, beside which EXIF says nothing (ISO/IEC 23008-12,
    # A.2.4).
    return OpenedImage("HEIF", image.size, load, profile=image.info.get("icc_profile"))


def read_structure(data: bytes) -> Structure:
    """Walk over the boxes that describe images.

    Raises:
        UnreadableImage: there are too many.
    """
    structure = Structure()
    left = [MAX_BOXES]
    for kind, content in _boxes(data, 0, len(data), MAX_DEPTH, left):
        if kind == b"ftyp":
            structure.brands = [content[at : at + 4] for at in range(8, len(content), 4)]
        elif kind == b"ipco":
            structure.properties += _boxes(content, 0, len(content), 0, left)
        elif kind == b"ipma":
            structure.owned |= _associations(content)
        elif kind == b"iref":
            structure.derived += _derived(content)
    for kind, content in structure.properties:
        if kind == b"ispe" and len(content) >= 12:
            width, height = struct.unpack_from(">II", content, 4)
            structure.sizes.append((width, height))
        elif kind == b"hvcC":
            structure.coded_sizes += _coded_sizes(content)
        elif kind == b"av1C":
            structure.av1 = True
    return structure


def _boxes(data: bytes, at: int, end: int, depth: int, left: list[int]) -> Iterator[tuple[bytes, bytes]]:
    """(type, content) of the boxes that are not data, and of the boxes in them."""
    while at + 8 <= end:
        left[0] -= 1
        if left[0] < 0:
            raise UnreadableImage("the picture is cut into too many pieces")
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        start = at + 8
        if size == 1:
            size, start = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        elif size == 0:
            size = end - at
        if size < start - at:
            return
        stop = min(at + size, end)
        if kind in CONTAINERS and depth:
            yield from _boxes(data, start + CONTAINERS[kind], stop, depth - 1, left)
        elif kind not in (b"mdat", b"idat", b"free", b"skip"):
            yield kind, data[start:stop]
        at += size


def _associations(content: bytes) -> dict[int, list[int]]:
    """Item -> the numbers of its properties, from 1 (ISO/IEC 23008-12, 9.3.1)."""
    owned: dict[int, list[int]] = {}
    if len(content) < 8:
        return owned
    wide_items, wide_numbers = content[0] >= 1, content[3] & 1
    at = 8
    for _ in range(min(int.from_bytes(content[4:8], "big"), len(content))):
        item = int.from_bytes(content[at : at + (4 if wide_items else 2)], "big")
        at += 4 if wide_items else 2
        if at >= len(content):
            break
        count, at = content[at], at + 1
        step = 2 if wide_numbers else 1
        mask = 0x7FFF if wide_numbers else 0x7F
        numbers = [
            int.from_bytes(content[p : p + step], "big") & mask for p in range(at, at + step * count, step)
        ]
        owned[item] = numbers
        at += step * count
    return owned


def _derived(content: bytes) -> list[int]:
    """The items that grids and overlays are made of, as often as they are used (ISO/IEC 14496-12,
    8.11.12)."""
    items: list[int] = []
    step = 4 if content[:1] == b"\1" else 2
    for kind, reference in _boxes(content, 4, len(content), 0, [MAX_BOXES]):
        if kind == b"dimg":
            start = step + 2
            items += (
                int.from_bytes(reference[at : at + step], "big") for at in range(start, len(reference), step)
            )
    return items


def _check_tiles(structure: Structure, max_pixels: int) -> None:
    """Raises ImageTooLarge when the tiles are too many, or more pixels than the image could need."""
    pixels = 0
    for item in structure.derived:
        for number in structure.owned.get(item, ()):
            if 1 <= number <= len(structure.properties):
                kind, content = structure.properties[number - 1]
                if kind == b"ispe" and len(content) >= 12:
                    width, height = struct.unpack_from(">II", content, 4)
                    pixels += width * height
    if len(structure.derived) > MAX_TILES or pixels > WORK * max_pixels:
        raise ImageTooLarge(f"the picture is made of more than {MAX_TILES} tiles, or of too large ones")


def _coded_sizes(configuration: bytes) -> Iterator[tuple[int, int]]:
    """Width and height in each sequence parameter set of HEVC, which the decoder takes memory for, whatever
    the image announces (ISO/IEC 14496-15, 8.3.3.1)."""
    if len(configuration) < 23:
        return
    at = 23
    for _ in range(configuration[22]):
        kind, count = configuration[at : at + 1], int.from_bytes(configuration[at + 1 : at + 3], "big")
        at += 3
        for _ in range(count):
            length = int.from_bytes(configuration[at : at + 2], "big")
            if kind and kind[0] & 0x3F == 33:
                size = _parameter_set_size(configuration[at + 2 : at + 2 + length])
                if size is not None:
                    yield size
            at += 2 + length
            if at > len(configuration):
                return


def _parameter_set_size(unit: bytes) -> tuple[int, int] | None:
    """ITU H.265, 7.3.2.2, up to the size of the pictures; of the one layer that images have."""
    payload = unit[2:64].replace(b"\0\0\3", b"\0\0")
    if len(payload) < 15 or payload[0] >> 1 & 7:
        return None
    bits = int.from_bytes(payload[13:], "big")
    length = 8 * (len(payload) - 13)

    def number() -> int:
        """Exp-Golomb, 9.2."""
        nonlocal length
        zeros = 0
        while length > 0 and not bits >> length - 1 & 1:
            zeros, length = zeros + 1, length - 1
        if length < zeros + 1:
            raise UnreadableImage("the picture's header is damaged")
        length -= zeros + 1
        return (bits >> length & (1 << zeros + 1) - 1) - 1

    number()  # which set it is
    if number() == 3:  # chroma format
        length -= 1
    return number(), number()
