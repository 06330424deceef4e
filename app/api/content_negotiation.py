"""Content negotiation: the table of what answers can be written as, and which of it a request gets: what the
suffix of its path names, else ?format=, else what Accept prefers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import BaseModel
from starlette.requests import Request

from app.errors import InvalidField, NotAcceptable

Format = Literal["png", "jpeg", "webp", "avif", "gif", "json", "npy", "bin"]
FORMATS: tuple[Format, ...] = get_args(Format)
UNBOUNDED = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Representation:
    """What answers of one format are.

    Attributes:
        suffix: of the paths that answer in it, behind a dot.
        max_side: most pixels of a side: of JPEG what libjpeg writes, of AVIF what libavif reads, of others
            what the format has room for; the images in JSON are files of their own.
    """

    suffix: str
    media_type: str
    max_side: int = UNBOUNDED

    @property
    def is_image(self) -> bool:
        """Whether it is an image file, still or moving."""
        return self.media_type.startswith("image/")


REPRESENTATIONS: dict[Format, Representation] = {
    "png": Representation("png", "image/png"),
    "jpeg": Representation("jpg", "image/jpeg", 65_500),
    "webp": Representation("webp", "image/webp", 16_383),
    "avif": Representation("avif", "image/avif", 32_768),
    "gif": Representation("gif", "image/gif", 65_535),
    "json": Representation("json", "application/json"),
    "npy": Representation("npy", "application/x-npy"),
    "bin": Representation("bin", "application/octet-stream"),
}
BY_SUFFIX = {each.suffix: name for name, each in REPRESENTATIONS.items()}


@dataclass(frozen=True, slots=True)
class Choice:
    """The format of an answer, and where in the request it was named: `path`, `query.format` or, where
    Accept decided, nowhere."""

    format: Format
    named_in: str | None


def format_name(name: object) -> object:
    """What a format is called here: `jpeg` where a client calls it `jpg`, as paths do."""
    return BY_SUFFIX.get(name, name) if isinstance(name, str) else name


def offered_formats(query: type[BaseModel]) -> tuple[Format, ...]:
    """The formats that an endpoint answers in: those of `format` in the model of its query."""
    formats, _ = get_args(query.model_fields["format"].annotation)
    return get_args(formats)


def path_with(path: str, name: Format) -> str:
    """The path below which an endpoint answers in one format alone."""
    return f"{path}.{REPRESENTATIONS[name].suffix}"


def format_of(path: str) -> Format | None:
    """The format that the suffix of a path names, if it has one."""
    return BY_SUFFIX.get(path.rpartition("/")[2].rpartition(".")[2]) if "." in path else None


def choose_format(request: Request, offered: Sequence[Format], of_path: Format | None = None) -> Choice:
    """The format of the answer: that of the path, else ?format=, else what Accept prefers (RFC 9110, 12.5.1).

    Among formats the client likes equally, one it names goes before one that a wildcard covers, AVIF before
    others that it names, and the order of `offered` decides the rest.

    Args:
        of_path: the format that the suffix of the path names.

    Raises:
        InvalidField: ?format= is none of FORMATS. NotAcceptable.
    """
    if of_path is not None:
        return Choice(of_path, "path")
    wanted = request.query_params.get("format") if request.scope["query_string"] else None
    if wanted is not None:
        named = format_name(wanted)
        if named not in FORMATS:
            raise InvalidField([("query.format", f"must be one of {', '.join(FORMATS)}")])
        if named not in offered:
            raise NotAcceptable(f"this endpoint answers in {', '.join(offered)}")
        return Choice(named, "query.format")
    return Choice(_preferred(request, offered), None)


def _preferred(request: Request, offered: Sequence[Format]) -> Format:
    accept = ",".join(request.headers.getlist("accept"))
    if accept.strip() in ("", "*/*"):
        return offered[0]
    ranges = _parse_accept(accept)
    media_types = {name: REPRESENTATIONS[name].media_type for name in offered}
    best = max(
        offered, key=lambda name: (*_preference(ranges, media_types[name]), _is_named_avif(ranges, name))
    )
    if _preference(ranges, media_types[best])[0] == 0:
        raise NotAcceptable(f"this endpoint answers in {', '.join(media_types.values())}")
    return best


def _is_named_avif(ranges: dict[str, float], name: Format) -> bool:
    """A browser that reads AVIF says so beside all else that it reads, and no format is smaller."""
    return name == "avif" and REPRESENTATIONS[name].media_type in ranges


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
