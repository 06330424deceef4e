"""Content encodings: gzip bodies unpacked as they arrive, and encoded parts of forms."""

import binascii
import zlib
from collections.abc import Iterator

from starlette.requests import Request

from app.errors import MalformedBody, UnsupportedBody

ACCEPTED = "gzip"
GZIP_FORMAT = 16 + zlib.MAX_WBITS
PIECE = 2**18
"""Most bytes that are unpacked at a time: they hold the event loop for about half a millisecond."""
SLICE = 2**16
"""Most packed bytes that are looked at together, as what follows a member of a gzip file is copied."""
MAX_MEMBERS = 1024
"""Most members of a gzip body; block-wise writers make one of each 64 KiB."""
PLAIN_TRANSFER = frozenset((b"", b"7bit", b"8bit", b"binary"))
WHITESPACE = b" \t\r\n"


def is_gzip(request: Request) -> bool:
    """Whether the body comes packed as gzip, by its Content-Encoding (RFC 9110, 8.4).

    Raises:
        UnsupportedBody: it is encoded in another way, or twice.
    """
    given = [value for name, value in request.scope["headers"] if name == b"content-encoding"]
    if not given:
        return False
    codings = [coding.strip().lower() for coding in b",".join(given).decode("latin-1").split(",")]
    applied = [coding for coding in codings if coding not in ("", "identity")]
    if applied in (["gzip"], ["x-gzip"]):
        return True
    if applied:
        said = ", ".join(applied)[:100]
        raise UnsupportedBody(
            f"a body with Content-Encoding {said!r} is not read; send it as it is, or packed as gzip",
            accept_encoding=ACCEPTED,
        )
    return False


class Gunzip:
    """Unpacks a gzip file (RFC 1952), of one member or several, in pieces of at most PIECE bytes."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(GZIP_FORMAT)
        self._members = 1
        self._begun = False

    def feed(self, packed: bytes) -> Iterator[bytes]:
        """What the next bytes unpack to; nothing is unpacked before it is asked for.

        Raises:
            MalformedBody: they are no gzip, or have more than MAX_MEMBERS members.
        """
        for start in range(0, len(packed), SLICE):
            yield from self._unpack(packed[start : start + SLICE])

    def _unpack(self, packed: bytes) -> Iterator[bytes]:
        self._begun = True
        piece = b""
        while packed or len(piece) == PIECE:
            if self._member.eof:
                packed = packed.lstrip(b"\0")  # padding, as tapes have it
                if not packed:
                    return
                self._next_member()
            try:
                piece = self._member.decompress(packed, PIECE)
            except zlib.error:
                raise MalformedBody("the body is not valid gzip, as its Content-Encoding says") from None
            if piece:
                yield piece
            packed = self._member.unused_data or self._member.unconsumed_tail

    def _next_member(self) -> None:
        if self._members == MAX_MEMBERS:
            raise MalformedBody(f"the gzip body has more than {MAX_MEMBERS} members")
        self._members += 1
        self._member = zlib.decompressobj(GZIP_FORMAT)

    def end(self) -> None:
        """Raises MalformedBody where the file is not complete; no bytes at all are a body without content."""
        if self._begun and not self._member.eof:
            raise MalformedBody("the gzip body ends before its end mark")


def unpacked_part(headers: bytes, content: bytes, name: str) -> bytes:
    """The content of a part of a form as it was before its Content-Transfer-Encoding (RFC 2045, 6).

    Args:
        headers: the lines of its header.
        name: of its field, for messages.

    Raises:
        UnsupportedBody: it is encoded in a way other than base64. MalformedBody: it is no base64.
    """
    if b"encoding" not in headers.lower():
        return content
    for line in headers.split(b"\r\n"):
        key, _, value = line.partition(b":")
        key, value = key.strip().lower(), value.strip().lower()
        if key == b"content-encoding" and value not in (b"", b"identity"):
            raise _unsupported_part(name, "Content-Encoding", value)
        if key == b"content-transfer-encoding" and value not in PLAIN_TRANSFER:
            if value != b"base64":
                raise _unsupported_part(name, "Content-Transfer-Encoding", value)
            content = _from_base64(content, name)
    return content


def _unsupported_part(name: str, header: str, value: bytes) -> UnsupportedBody:
    said = value.decode("latin-1")[:100]
    return UnsupportedBody(
        f"the part {name!r} has the {header} {said!r}, which is not read; send it as it is"
    )


def _from_base64(content: bytes, name: str) -> bytes:
    try:
        return binascii.a2b_base64(content.translate(None, WHITESPACE), strict_mode=True)
    except binascii.Error:
        raise MalformedBody(
            f"the part {name!r} is not valid base64, as its Content-Transfer-Encoding says"
        ) from None
