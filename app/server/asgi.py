"""ASGI: the types of its interface, and the look-up of a header."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of that (lower-case) name."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


def route_path(scope: Scope) -> str:
    """The path that routes are compared with: without the root path that a proxy serves the app under."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    within = path.removeprefix(root)
    return within if within == "" or within.startswith("/") else path
