"""Content negotiation: Accept and ?format= -> the format of the answer."""

from collections.abc import Sequence
from typing import Literal, get_args

from pydantic import BaseModel
from starlette.requests import Request

from app.errors import InvalidField, NotAcceptable

Format = Literal["png", "jpeg", "webp", "gif", "json"]
FORMATS: tuple[Format, ...] = get_args(Format)
MEDIA_TYPES: dict[Format, str] = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "json": "application/json",
}
MAX_SIDES: dict[Format, int] = {
    "png": 2**31 - 1,
    "jpeg": 65_500,
    "webp": 16_383,
    "gif": 65_535,
    "json": 2**31 - 1,
}
"""Most pixels of a side: of JPEG what libjpeg writes, of the others what the format has room for; the images
in JSON are PNG."""


def offered_formats(query: type[BaseModel]) -> tuple[Format, ...]:
    """The formats that an endpoint answers in: those of `format` in the model of its query."""
    formats, _ = get_args(query.model_fields["format"].annotation)
    return get_args(formats)


def named_format(request: Request) -> str | None:
    """What ?format= asks for, if it is there."""
    return request.query_params.get("format") if request.scope["query_string"] else None


def choose_format(request: Request, offered: Sequence[Format]) -> Format:
    """The format of the answer: ?format= where it is given, else what Accept prefers (RFC 9110, 12.5.1).

    Among formats the client likes equally, one it names goes before one that a wildcard covers, and the order
    of `offered` decides the rest.

    Raises:
        InvalidField: ?format= is none of FORMATS. NotAcceptable.
    """
    wanted = named_format(request)
    if wanted is not None:
        if wanted not in FORMATS:
            raise InvalidField([("query.format", f"must be one of {', '.join(FORMATS)}")])
        if wanted not in offered:
            raise NotAcceptable(f"this endpoint answers in {', '.join(offered)}")
        return wanted
    accept = ",".join(request.headers.getlist("accept"))
    if accept.strip() in ("", "*/*"):
        return offered[0]
    ranges = _parse_accept(accept)
    best = max(offered, key=lambda name: _preference(ranges, MEDIA_TYPES[name]))
    if _preference(ranges, MEDIA_TYPES[best])[0] == 0:
        raise NotAcceptable(f"this endpoint answers in {', '.join(MEDIA_TYPES[name] for name in offered)}")
    return best


def _parse_accept(accept: str) -> dict[str, float]:
    """Media range -> quality; ranges that make no sense are left out."""
    ranges = {}
    for element in accept.lower().split(","):
        name, *parameters = (part.strip() for part in element.split(";"))
        quality = next((value[2:] for value in parameters if value.startswith("q=")), "1")
        try:
            ranges[name] = min(1.0, max(0.0, float(quality)))
        except ValueError:
            continue
    return ranges


def _preference(ranges: dict[str, float], media_type: str) -> tuple[float, int]:
    """(quality, how exactly it is named): the most specific range that covers a media type decides."""
    family = media_type.partition("/")[0] + "/*"
    for exactness, name in ((2, media_type), (1, family), (0, "*/*")):
        if name in ranges:
            return ranges[name], exactness
    return 0.0, 0
