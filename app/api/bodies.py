"""Request bodies: received whole, unpacked on the way, then read as a raw image or as a multipart form."""

import asyncio
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from app.api.content_encoding import Gunzip, unpacked_part
from app.errors import InvalidField, MalformedBody, TooManyItems, UnsupportedBody

IMAGE_FIELD = "image"
PLAIN_NAME = re.compile(rb';[ \t]*name="([^"\\]+)"', re.IGNORECASE)
"""A field name as every client writes it; whatever else there may be is left to the full parser."""
MAX_FIELD_BYTES = 16384
"""Longest value of a form field other than an image; 64 lambdas are a tenth of it."""
MAX_FIELDS = 64
"""Most form fields other than images, and most values of one."""
MAX_HEADER_BYTES = 4096
MAX_BOUNDARY = 70
"""RFC 2046, section 5.1.1."""


@dataclass(frozen=True, slots=True)
class Upload:
    """The images of a request in their order, as files, and the other fields of its form."""

    images: list[bytes] = field(default_factory=list)
    fields: dict[str, list[str]] = field(default_factory=dict)


async def read_body(
    request: Request, timeout: float, count_unpacked: Callable[[int], None] | None = None
) -> bytes:
    """The whole body of a request.

    Args:
        timeout: seconds.
        count_unpacked: given where the body is gzip: is told how many bytes each piece of it unpacks to,
            before the next one is unpacked, and raises to end it.

    Raises:
        MalformedBody: it did not arrive in time, or is no gzip.
        ClientDisconnect: the client has gone.
    """
    chunks: list[bytes] = []
    gunzip = None if count_unpacked is None else Gunzip()
    try:
        async with asyncio.timeout(timeout):
            more = True
            while more:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunk = message.get("body", b"")
                more = message.get("more_body", False)
                if gunzip is None or count_unpacked is None:
                    chunks.append(chunk)
                    continue
                for piece in gunzip.feed(chunk):
                    count_unpacked(len(piece))
                    chunks.append(piece)
                    await asyncio.sleep(0)  # a few bytes can be megabytes: others have their turn
    except TimeoutError:
        raise MalformedBody(f"the body did not arrive within {timeout:g} seconds") from None
    if gunzip is not None:
        gunzip.end()
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def body_type(request: Request) -> str:
    """The media type of the body, lower-case and without parameters; empty where there is none."""
    return media_type_of(request.headers.get("content-type", ""))


def media_type_of(content_type: str) -> str:
    """The media type in a Content-Type header, lower-case and without parameters."""
    return content_type.partition(";")[0].strip().lower()


def is_json(media_type: str) -> bool:
    """Whether a body of this type is read as JSON."""
    return media_type == "application/json" or media_type.endswith("+json")


def parse_images(body: bytes, content_type: str, max_items: int) -> Upload:
    """The images in a body: a raw one, or the `image` fields of a multipart form.

    Raises:
        UnsupportedBody, MalformedBody, TooManyItems.
    """
    media_type = media_type_of(content_type)
    if media_type.startswith("image/") or media_type == "application/octet-stream":
        return Upload([body])
    if media_type == "multipart/form-data":
        return _parse_form(body, content_type, max_items)
    raise UnsupportedBody(
        "send pictures as multipart/form-data with the field `image`, or one as a raw body with the content "
        "type image/* or application/octet-stream"
    )


def _parse_form(body: bytes, content_type: str, max_items: int) -> Upload:
    upload = Upload()
    for headers, content in _split_form(body, _boundary(content_type)):
        name = _field_name(headers)
        content = unpacked_part(headers, content, name)
        if name == IMAGE_FIELD:
            if len(upload.images) == max_items:
                raise TooManyItems(f"more than {max_items} pictures; send them in several requests")
            upload.images.append(content)
            continue
        if len(content) > MAX_FIELD_BYTES:
            message = f"must be at most {MAX_FIELD_BYTES} bytes long; a picture is the field `{IMAGE_FIELD}`"
            raise InvalidField([(name, message)])
        values = upload.fields.setdefault(name, [])
        if len(values) == MAX_FIELDS:
            raise InvalidField([(name, f"must be given {MAX_FIELDS} times at most")])
        values.append(content.decode("utf-8", "replace"))
        if len(upload.fields) > MAX_FIELDS:
            raise TooManyItems(f"more than {MAX_FIELDS} form fields")
    return upload


def _boundary(content_type: str) -> bytes:
    boundary = parse_options_header(content_type[:MAX_HEADER_BYTES])[1].get(b"boundary", b"")
    if not 0 < len(boundary) <= MAX_BOUNDARY:
        raise MalformedBody(f"multipart/form-data needs a boundary of 1 to {MAX_BOUNDARY} characters")
    return boundary


def _split_form(body: bytes, boundary: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(headers, content) of each part of a multipart body (RFC 2046, section 5.1.1).

    The body is in memory as a whole, so every step is one search and no byte is looked at from Python: bodies
    that are made to be slow are as quick as any other.
    """
    delimiter = b"\r\n--" + boundary
    at = 0 if body.startswith(delimiter[2:]) else body.find(delimiter) + 2
    if at == 1:
        raise MalformedBody("the multipart body has no boundary")
    at += len(delimiter) - 2
    while not body.startswith(b"--", at):
        line = body.find(b"\r\n", at, at + MAX_HEADER_BYTES)
        blank = body.find(b"\r\n\r\n", line, line + MAX_HEADER_BYTES)
        if line < 0 or blank < 0 or body[at:line].strip(b" \t"):
            raise MalformedBody("a part of the multipart body is damaged")
        end = body.find(delimiter, blank + 4)
        if end < 0:
            raise MalformedBody("the multipart body ends before its closing boundary")
        yield body[line:blank], body[blank + 4 : end]
        at = end + len(delimiter)


def _field_name(headers: bytes) -> str:
    """The name of a part, cut to a length that may be shown."""
    for line in headers.split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.lower() == b"content-disposition":
            plain = PLAIN_NAME.search(value)
            name = plain[1] if plain else parse_options_header(value)[1].get(b"name")
            if name:
                return name.decode("utf-8", "replace")[:100]
    raise MalformedBody("a part of the multipart body has no name")
