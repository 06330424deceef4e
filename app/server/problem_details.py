"""Errors as clients see them: application/problem+json (RFC 9457)."""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.errors import (
    BodyTooLarge,
    InferenceFailed,
    InvalidField,
    MalformedBody,
    NotAcceptable,
    NotReady,
    PictureTooLarge,
    QueueFull,
    QueueTimeout,
    ServiceError,
    TooManyItems,
    Unauthorized,
    UnreadablePicture,
    UnsupportedBody,
    UnsupportedPicture,
    WrongModel,
)
from app.server.asgi import Scope

MEDIA_TYPE = "application/problem+json"

STATUS: dict[type[ServiceError], tuple[int, str]] = {
    UnreadablePicture: (400, "Unreadable picture"),
    MalformedBody: (400, "Malformed body"),
    Unauthorized: (401, "Unauthorized"),
    NotAcceptable: (406, "Not acceptable"),
    WrongModel: (409, "Latents of another model"),
    BodyTooLarge: (413, "Body too large"),
    PictureTooLarge: (413, "Picture too large"),
    TooManyItems: (413, "Too many items"),
    UnsupportedPicture: (415, "Unsupported picture format"),
    UnsupportedBody: (415, "Unsupported body type"),
    InvalidField: (422, "Invalid input"),
    QueueFull: (429, "Queue full"),
    InferenceFailed: (500, "Inference failed"),
    NotReady: (503, "Not ready"),
    QueueTimeout: (504, "Waited too long"),
}
"""Exception -> (HTTP status, title of the problem)."""

NOT_READY_RETRY = 5
"""Seconds after which a client may ask again: another replica, or this one restarted."""


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
    return Response(orjson.dumps(content), status, headers, MEDIA_TYPE)


def from_service_error(scope: Scope, error: ServiceError) -> Response:
    """The response to one of our own errors, by STATUS."""
    status, title = STATUS[type(error)]
    return problem(
        scope,
        status,
        str(error),
        title=title,
        kind=f"urn:car-vae:problem:{_kebab(type(error).__name__)}",
        errors=error.problems if isinstance(error, InvalidField) else (),
        headers=_headers(error),
    )


def _kebab(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


def _headers(error: ServiceError) -> dict[str, str] | None:
    if isinstance(error, QueueFull):
        return {"Retry-After": str(error.retry_after)}
    if isinstance(error, NotReady):
        return {"Retry-After": str(NOT_READY_RETRY)}
    if isinstance(error, Unauthorized):
        return {"WWW-Authenticate": 'Bearer realm="car-vae"'}
    return None


async def on_service_error(request: Request, error: Exception) -> Response:
    """Exception handler for ServiceError."""
    assert isinstance(error, ServiceError)
    return from_service_error(request.scope, error)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Exception handler for what the router raises: unknown paths and wrong methods."""
    assert isinstance(error, HTTPException)
    details = {
        404: "there is nothing at this path; /docs lists what there is",
        405: f"{request.method} is not allowed here",
    }
    return problem(
        request.scope, error.status_code, details.get(error.status_code, error.detail), headers=error.headers
    )
