"""HEIC files for tests. Nothing among the requirements encodes HEVC, so the coded data of one image stands
here: photograph(64, 64) of tests.images, by x265."""

import base64
import struct

SIDE = 64
CONFIGURATION = base64.b64decode(
    "AQNwAAAAAAAAAAAAHvAA/P34+AAADwMgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQCEAAQAoQgEBA3AAAAMAkAAAAwAAAwAe"
    "oCCBBZbqSSmubAgAAAMACAAAAwAIQCIAAQAHRAHBcrAiQA=="
)
SLICE = base64.b64decode(
    "AAAA1CgBrwng44SmREJgugk0bICz5yHPEJNt2xpYB7JBeEJLYMIB928km/BpYkFst69mK1VL3pdTd9mftSdyBa0VnawYyiL9IyaN"
    "FiKUyAYvSese9vU5IiOy1hvWhPNgwiGzxbUVy8csT8WRNJWUiI5MQ9kGu4abmh+RkwyhBgbf9cCj9dc1EzdfQJi7M6F0NOaWrYWj"
    "6gGKpM2MFeg0LKNApNCem8Yu5unVTZNOpoCsDvNFyQRWBlwTfXb/uE4EOcqMG7XlEVpxWTqu2WkUMp21wz1hTOIk"
)


def box(kind: bytes, *content: bytes) -> bytes:
    """A box with its length (ISO/IEC 14496-12, 4.2)."""
    body = b"".join(content)
    return struct.pack(">I", 8 + len(body)) + kind + body


def full_box(kind: bytes, version: int, *content: bytes) -> bytes:
    """A box with a version, and no flags."""
    return box(kind, bytes((version, 0, 0, 0)), *content)


def extent(width: int, height: int) -> bytes:
    """The property that announces a size."""
    return full_box(b"ispe", 0, struct.pack(">II", width, height))


def rotated(quarters: int) -> bytes:
    """The property that turns an image so many quarters, against the clock."""
    return box(b"irot", bytes((quarters,)))


def mirrored(axis: int) -> bytes:
    """The property that mirrors an image: 0 top to bottom, 1 left to right."""
    return box(b"imir", bytes((axis,)))


def profile(content: bytes) -> bytes:
    """The property that holds a colour profile."""
    return box(b"colr", b"prof", content)


def heic(
    *properties: bytes, size: tuple[int, int] = (SIDE, SIDE), exif: bytes = b"", tiles: int = 0
) -> bytes:
    """The image in a file of its own, or as each tile of a row of tiles.

    Args:
        properties: more properties of the primary image.
        size: what its size is announced to be.
        exif: an EXIF block, from its byte order on.
        tiles: the tiles that the image is made of; 0 for no grid.
    """
    coded = [box(b"hvcC", CONFIGURATION), extent(*size)]
    count = max(tiles, 1)
    items = [(number, b"hvc1", SLICE) for number in range(1, count + 1)]
    shared = coded
    owned = {number: [1, 2] for number in range(1, count + 1)}
    primary = 1
    references = b""
    if tiles:
        primary = tiles + 1
        items.append((primary, b"grid", struct.pack(">BBBBHH", 0, 0, 0, tiles - 1, tiles * SIDE, SIDE)))
        shared = [*coded, extent(tiles * SIDE, SIDE)]
        owned[primary] = [3]
        references = box(b"dimg", struct.pack(f">HH{tiles}H", primary, tiles, *range(1, tiles + 1)))
    owned[primary] += range(len(shared) + 1, len(shared) + 1 + len(properties))
    if exif:
        items.append((count + 2, b"Exif", bytes(4) + exif))
        references += box(b"cdsc", struct.pack(">HHH", count + 2, 1, primary))
    start = box(b"ftyp", b"heic", bytes(4), b"mif1", b"heic")

    def meta(data_at: int) -> bytes:
        places = b""
        for number, _, content in items:
            places += struct.pack(">HHHII", number, 0, 1, data_at, len(content))
            data_at += len(content)
        infos = b"".join(
            full_box(b"infe", 2, struct.pack(">HH", number, 0), kind, b"\0") for number, kind, _ in items
        )
        links = b"".join(
            struct.pack(">HB", item, len(numbers)) + bytes(numbers) for item, numbers in owned.items()
        )
        return full_box(
            b"meta",
            0,
            full_box(b"hdlr", 0, bytes(4), b"pict", bytes(13)),
            full_box(b"pitm", 0, struct.pack(">H", primary)),
            full_box(b"iloc", 0, b"\x44\0", struct.pack(">H", len(items)), places),
            full_box(b"iinf", 0, struct.pack(">H", len(items)), infos),
            box(
                b"iprp",
                box(b"ipco", *shared, *properties),
                full_box(b"ipma", 0, struct.pack(">I", len(owned)), links),
            ),
            full_box(b"iref", 0, references) if references else b"",
        )

    return b"".join(
        (start, meta(len(start) + len(meta(0)) + 8), box(b"mdat", *(content for _, _, content in items)))
    )
