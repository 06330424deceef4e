"""Problem details (RFC 9457): the table from exceptions to HTTP statuses, and the answers made of both."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from http import HTTPStatus
from typing import Any

import orjson
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.errors import (
    BodyTooLarge,
    DamagedCode,
    ImageTooLarge,
    InferenceFailed,
    InvalidField,
    MalformedBody,
    NotAcceptable,
    NotOffered,
    NotReady,
    QueueFull,
    QueueTimeout,
    ServiceError,
    TooManyItems,
    Unauthorized,
    UnreadableImage,
    UnsupportedBody,
    UnsupportedImage,
    WrongModel,
)
from app.server.asgi import Scope, route_path

MEDIA_TYPE = "application/problem+json"

STATUS: dict[type[ServiceError], tuple[int, str, str]] = {
    UnreadableImage: (400, "unreadable-picture", "Unreadable picture"),
    DamagedCode: (400, "damaged-code", "Damaged code"),
    MalformedBody: (400, "malformed-body", "Malformed body"),
    Unauthorized: (401, "unauthorized", "Unauthorized"),
    NotOffered: (404, "not-offered", "Not offered"),
    NotAcceptable: (406, "not-acceptable", "Not acceptable"),
    WrongModel: (409, "wrong-model", "Latents or code of another model"),
    BodyTooLarge: (413, "body-too-large", "Body too large"),
    ImageTooLarge: (413, "picture-too-large", "Picture too large"),
    TooManyItems: (413, "too-many-items", "Too many items"),
    UnsupportedImage: (415, "unsupported-picture", "Unsupported picture format"),
    UnsupportedBody: (415, "unsupported-body", "Unsupported body type"),
    InvalidField: (422, "invalid-field", "Invalid input"),
    QueueFull: (429, "queue-full", "Queue full"),
    InferenceFailed: (500, "inference-failed", "Inference failed"),
    NotReady: (503, "not-ready", "Not ready"),
    QueueTimeout: (504, "queue-timeout", "Waited too long"),
}
"""Exception -> (HTTP status, last part of the problem's type, its title). Clients tell problems apart by the
type, so it stays whatever the exception is called."""

NOT_READY_RETRY = 5
"""Seconds after which a client may ask again: another replica, or this one restarted."""
LONGEST_PATH = 60
"""Longest path that is compared with those that there are."""


def problem(
    scope: Scope,
    status: int,
    detail: str,
    *,
    title: str | None = None,
    kind: str = "about:blank",
    errors: Sequence[tuple[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The response to a request that failed; `title` is the phrase of the status unless given."""
    content: dict[str, Any] = {
        "type": kind,
        "title": title or HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "request_id": scope["state"]["request_id"],
    }
    if errors:
        content["errors"] = [{"place": place, "message": message} for place, message in errors]
    # Else caches may keep some errors, 404 among them, for as long as they see fit (RFC 9111, 4.2.2).
    return Response(
        orjson.dumps(content), status, {"Cache-Control": "no-store", **(headers or {})}, MEDIA_TYPE
    )


def from_service_error(scope: Scope, error: ServiceError) -> Response:
    """The response to one of our own errors, by STATUS."""
    status, kind, title = STATUS[type(error)]
    return problem(
        scope,
        status,
        str(error),
        title=title,
        kind=f"urn:car-vae:problem:{kind}",
        errors=error.problems if isinstance(error, InvalidField) else (),
        headers=_headers(error),
    )


def _headers(error: ServiceError) -> dict[str, str] | None:
    if isinstance(error, QueueFull):
        return {"Retry-After": str(error.retry_after)}
    if isinstance(error, NotReady):
        return {"Retry-After": str(NOT_READY_RETRY)}
    if isinstance(error, Unauthorized):
        return {"WWW-Authenticate": 'Bearer realm="car-vae"'}
    if isinstance(error, UnsupportedBody) and error.accept_encoding is not None:
        return {"Accept-Encoding": error.accept_encoding}
    return None


async def on_service_error(request: Request, error: Exception) -> Response:
    """Exception handler for ServiceError."""
    assert isinstance(error, ServiceError)
    return from_service_error(request.scope, error)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Exception handler for what the router raises: unknown paths and wrong methods."""
    assert isinstance(error, HTTPException)
    detail = error.detail
    if error.status_code == 404:
        detail = f"there is nothing at this path; {_instead(request)}"
    elif error.status_code == 405:
        detail = f"{request.method} is not allowed here"
    headers = {"Allow": ", ".join(_allowed(request))} if error.status_code == 405 else error.headers
    return problem(request.scope, error.status_code, detail, headers=headers)


def _instead(request: Request) -> str:
    """Where to look for what is not there: under another suffix, at a path of a similar name, or at /docs."""
    wanted = route_path(request.scope).lower()
    known = dict.fromkeys(context.path for context in iter_route_contexts(request.app.routes))
    stem = wanted.partition(".")[0].rstrip("/")
    if stem in known:
        suffixes = [path.removeprefix(stem) for path in known if path and path.startswith(f"{stem}.")]
        return f"{stem} is there{', and with ' if suffixes else ''}{', '.join(suffixes)}"
    near = get_close_matches(wanted[:LONGEST_PATH], filter(None, known), n=1, cutoff=0.75)
    return f"did you mean {near[0]}?" if near else "/docs lists what there is"


def _allowed(request: Request) -> list[str]:
    """The methods of all routes of a path; the router names those of the first."""
    contexts = iter_route_contexts(request.app.routes)
    methods = (
        context.methods or () for context in contexts if context.path_regex.match(request.scope["path"])
    )
    return sorted(set().union(*methods))
