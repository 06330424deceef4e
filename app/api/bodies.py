"""Request bodies: received whole, then read as JSON, as a raw image, or as a multipart form."""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from app.errors import BodyTooLarge, InvalidField, MalformedBody, TooManyItems, UnsupportedBody

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
MAX_JSON_BYTES = 4 * 2**20
"""Largest JSON body, as parsing holds the event loop; 64 latents and their images take half of it."""
MAX_JSON_VALUES = 100_000
"""Most values in a JSON body: a million of them hold the event loop for more than a second, and 64 latents
with their deviations have a third of it."""


@dataclass(frozen=True, slots=True)
class Upload:
    """The images of a request in their order, as files, and the other fields of its form."""

    images: list[bytes] = field(default_factory=list)
    fields: dict[str, list[str]] = field(default_factory=dict)


async def read_body(request: Request, timeout: float) -> bytes:
    """The whole body of a request.

    Raises:
        MalformedBody: it did not arrive within `timeout` seconds.
        ClientDisconnect: the client has gone.
    """
    chunks = []
    try:
        async with asyncio.timeout(timeout):
            more = True
            while more:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunks.append(message.get("body", b""))
                more = message.get("more_body", False)
    except TimeoutError:
        raise MalformedBody(f"the body did not arrive within {timeout:g} seconds") from None
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


def parse_json(body: bytes) -> dict[str, Any]:
    """The JSON object in a body, which is UTF-8 whatever it says; of equal names the last one counts.

    Raises:
        MalformedBody: it is no JSON. InvalidField: it is no object.
        BodyTooLarge: more than MAX_JSON_BYTES or MAX_JSON_VALUES.
    """
    if len(body) > MAX_JSON_BYTES:
        raise BodyTooLarge(
            f"the body is larger than {MAX_JSON_BYTES} bytes, the most that is allowed for JSON"
        )
    if len(body) > MAX_JSON_VALUES and body.count(b",") + body.count(b"[") > MAX_JSON_VALUES:
        raise BodyTooLarge(
            f"the body has more than {MAX_JSON_VALUES} values, the most that is allowed for JSON"
        )
    try:
        values = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedBody(
            f"the body is not valid JSON: line {error.lineno}, column {error.colno}"
        ) from None
    if not isinstance(values, dict):
        raise InvalidField([("body", "must be a JSON object")])
    return values


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
        if name == IMAGE_FIELD:
            if len(upload.images) == max_items:
                raise TooManyItems(f"more than {max_items} pictures; send them in several requests")
            upload.images.append(content)
            continue
        if len(content) > MAX_FIELD_BYTES:
            raise InvalidField([(name, f"must be at most {MAX_FIELD_BYTES} bytes long")])
        values = upload.fields.setdefault(name, [])
        values.append(content.decode("utf-8", "replace"))
        if len(upload.fields) > MAX_FIELDS or len(values) > MAX_FIELDS:
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


def form_values(upload: Upload) -> dict[str, str | list[str]]:
    """Form fields as PathOptions takes them: `lambdas` is a list, every other field has one value."""
    values: dict[str, str | list[str]] = {
        name: texts[0] if len(texts) == 1 else texts for name, texts in upload.fields.items()
    }
    if "lambdas" in values:
        values["lambdas"] = ",".join(upload.fields["lambdas"]).split(",")
    return values
