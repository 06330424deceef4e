"""Entity tags: validators of answers, and whether a client has what one stands for (RFC 9110, 8.8.3, 13)."""

import hashlib
from collections.abc import Sequence

from starlette.datastructures import Headers


def digest(parts: Sequence[str]) -> str:
    """The opaque part of a tag for what is decided by `parts`, and by their order."""
    whole = "\0".join(parts).encode()
    return hashlib.sha256(whole).hexdigest()[:32]


def is_known(headers: Headers, tag: str) -> bool:
    """Whether If-None-Match names a tag, compared weakly: then 304 is all that need be sent."""
    known = ",".join(headers.getlist("if-none-match"))
    if known.strip() == "*":
        return True
    return tag.removeprefix("W/") in (each.strip().removeprefix("W/") for each in known.split(","))
