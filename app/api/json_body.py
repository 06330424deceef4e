"""JSON bodies: parsed by orjson; what it refuses is looked at again, to name what is wrong and where."""

import codecs
import json
import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

import orjson

from app.errors import BodyTooLarge, InvalidField, MalformedBody

MAX_JSON_BYTES = 4 * 2**20
"""Largest JSON beside the images in it, as parsing holds the event loop; 64 latents with their deviations
take a sixth of it."""
MAX_JSON_VALUES = 100_000
"""Most values in a JSON body: a million of them hold the event loop for more than a second, and 64 latents
with their deviations have a third of it."""
MAX_IMAGES = 1024
"""Most images that are left out of a body."""
MAX_DIGITS = 1000
"""Longest number that is looked at again: the time that Python takes for one grows with its square."""
MAX_PROBLEMS = 20
"""Most places that one answer lists."""
IMAGE_START = b'"data:image'


def parse_json(body: bytes) -> dict[str, Any]:
    """The JSON object in a body, which is UTF-8 whatever it says; of equal names the last one counts.

    Raises:
        MalformedBody: it is no JSON, or not in UTF-8. InvalidField: it is no object, or has numbers that are
        not finite. BodyTooLarge: more than MAX_JSON_BYTES beside its images, or more than MAX_JSON_VALUES.
    """
    text = body.removeprefix(codecs.BOM_UTF8)
    if len(text) > MAX_JSON_BYTES:
        text = without_images(text)
    if len(text) > MAX_JSON_BYTES:
        raise BodyTooLarge(
            f"the body is larger than {MAX_JSON_BYTES} bytes, the most that is allowed for JSON beside the "
            "pictures in it"
        )
    if len(text) > MAX_JSON_VALUES and text.count(b",") + text.count(b"[") > MAX_JSON_VALUES:
        raise BodyTooLarge(
            f"the body has more than {MAX_JSON_VALUES} values, the most that is allowed for JSON"
        )
    try:
        values = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise _named(text, error) from None
    if not isinstance(values, dict):
        raise InvalidField([("body", "must be a JSON object")])
    return values


def without_images(text: bytes) -> bytes:
    """JSON in which the data URLs of images are empty strings, found without looking at what is in them."""
    pieces = []
    kept = at = 0
    for _ in range(MAX_IMAGES):
        at = text.find(IMAGE_START, at)
        end = text.find(b'"', at + 1)
        if at < 0 or end < 0:
            break
        if text[at - 1 : at] != b"\\" and text[end - 1 : end] != b"\\":
            pieces.append(text[kept : at + 1])
            kept = end
        at = end + 1
    pieces.append(text[kept:])
    return b"".join(pieces)


def _named(text: bytes, error: orjson.JSONDecodeError) -> MalformedBody | InvalidField:
    """What is to be said of JSON that orjson does not read."""
    encoding = _wide_encoding(text)
    if encoding is not None:
        return MalformedBody(f"the body is JSON in {encoding}; JSON is sent in UTF-8 (RFC 8259, 8.1)")
    try:
        values = json.loads(text, parse_int=_number, parse_float=_number)
        places = list(islice(_not_finite(values, ""), MAX_PROBLEMS))
    except (ValueError, RecursionError):
        places = []
    if places:
        message = "must be a finite number; JSON has neither NaN nor infinity"
        return InvalidField([(place[:100] or "body", message) for place in places])
    return MalformedBody(f"the body is not valid JSON: line {error.lineno}, column {error.colno}")


def _wide_encoding(text: bytes) -> str | None:
    """UTF-16 or UTF-32, where a text begins with its byte order mark or in letters of its width."""
    encoding = json.detect_encoding(text)
    begin = text[:16].decode(encoding, "ignore").lstrip("\ufeff \t\r\n")
    return encoding[:6].upper() if encoding[:6] in ("utf-16", "utf-32") and begin[:1] in ("{", "[") else None


def _number(text: str) -> float:
    return float(text) if len(text) <= MAX_DIGITS else 0.0


def _not_finite(value: Any, place: str) -> Iterator[str]:
    """The places of numbers that are not finite; integers have been read as floats."""
    if isinstance(value, float):
        if not math.isfinite(value):
            yield place
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _not_finite(inner, f"{place}.{name}".removeprefix("."))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            if not isinstance(inner, float) or not math.isfinite(inner):
                yield from _not_finite(inner, f"{place}[{index}]")
