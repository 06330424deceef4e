"""Envelope of a code: its first byte, which names format and model, its check byte, and its text form."""

import base64
import binascii

from app.errors import DamagedCode, WrongModel

FORMAT = 1
"""Number of the byte format that this package writes and reads."""
VERSIONS = 32
LONGEST = 400
"""Bytes of the longest code."""

_TEXT = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
_POLYNOMIAL = 0x2F


def tag_of(version: int) -> int:
    """The first byte of a model's codes: the format in three bits, its version modulo 32 in five."""
    return FORMAT << 5 | version % VERSIONS


def seal(tag: int, payload: bytes) -> bytes:
    """A whole code: the tag, the payload and the check byte."""
    body = bytes([tag]) + payload
    return body + bytes([_crc(body)])


def tag_in(code: bytes) -> int:
    """The first byte of a whole code.

    Raises:
        DamagedCode: the check byte does not fit, or the length is none that a code has.
    """
    if not 3 <= len(code) <= LONGEST:
        raise DamagedCode(f"a code has 3 to {LONGEST} bytes, not {len(code)}")
    if _crc(code[:-1]) != code[-1]:
        raise DamagedCode("the code's check byte does not fit: a part of it is missing or altered")
    return code[0]


def unseal(tag: int, code: bytes) -> bytes:
    """The payload of a code.

    Raises:
        DamagedCode: see tag_in.
        WrongModel: it is whole, and its first byte is another one.
    """
    found = tag_in(code)
    if found != tag:
        raise WrongModel(_difference(found, tag))
    return code[1:-1]


def describe(tag: int) -> str:
    """What the first byte of a code says of it."""
    if tag >> 5 != FORMAT:
        return f"the code is of format {tag >> 5}"
    return f"the code is of a model of version {tag % VERSIONS}"


def _difference(found: int, expected: int) -> str:
    if found >> 5 != expected >> 5:
        return f"{describe(found)}; this model reads format {expected >> 5}"
    return f"{describe(found)}; this one is of version {expected % VERSIONS}"


def to_text(code: bytes) -> str:
    """URL-safe base64 without padding (RFC 4648, section 5)."""
    return base64.urlsafe_b64encode(code).rstrip(b"=").decode()


def from_text(text: str) -> bytes:
    """The code in what `to_text` wrote.

    Raises:
        DamagedCode: this is not the one text of any code.
    """
    if len(text) > (4 * LONGEST + 2) // 3:
        raise DamagedCode(
            f"a code has at most {LONGEST} bytes, {(4 * LONGEST + 2) // 3} characters of base64"
        )
    if not _TEXT.issuperset(text):
        raise DamagedCode("a code is written in URL-safe base64 without padding: A-Z, a-z, 0-9, - and _")
    try:
        code = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise DamagedCode("the code's base64 breaks off: a part of it is missing") from error
    if to_text(code) != text:
        raise DamagedCode("the code's base64 has bits behind its end: a part of it is missing or altered")
    return code


def _table() -> tuple[int, ...]:
    rows = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte << 1 ^ (_POLYNOMIAL if byte & 0x80 else 0)) & 0xFF
        rows.append(byte)
    return tuple(rows)


_ROWS = _table()


def _crc(data: bytes) -> int:
    """CRC-8/AUTOSAR: finds whatever lies within eight neighbouring bits, as one character of base64 does."""
    value = 0xFF
    for byte in data:
        value = _ROWS[value ^ byte]
    return value ^ 0xFF
