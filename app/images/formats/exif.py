"""EXIF blocks: the one field that is asked for, the orientation; what is broken is passed over."""

import struct

ORIENTATION = 0x0112
UPRIGHT = 1
PREFIX = b"Exif\0\0"
BYTE_ORDERS = {b"II": "<", b"MM": ">"}
SHORT, LONG = 3, 4


def orientation(block: bytes | None) -> int:
    """How an image is turned, 1 to 8 (CIPA DC-008, table 6); 1 where nothing says so."""
    if not block:
        return UPRIGHT
    block = block.removeprefix(PREFIX)
    order = BYTE_ORDERS.get(block[:2])
    if order is None or len(block) < 8:
        return UPRIGHT
    (directory,) = struct.unpack_from(order + "I", block, 4)
    if directory + 2 > len(block):
        return UPRIGHT
    (fields,) = struct.unpack_from(order + "H", block, directory)
    for at in range(directory + 2, min(directory + 2 + 12 * fields, len(block) - 11), 12):
        tag, kind, count = struct.unpack_from(order + "HHI", block, at)
        if tag == ORIENTATION:
            if kind not in (SHORT, LONG) or count != 1:
                return UPRIGHT
            (value,) = struct.unpack_from(order + ("H" if kind == SHORT else "I"), block, at + 8)
            return value if 1 <= value <= 8 else UPRIGHT
    return UPRIGHT
