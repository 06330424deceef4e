"""Middleware, outermost first: StartupErrorLine, RequestLog, FaultsAsProblems, ApiKey, BodyLimit."""

import asyncio
import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from starlette.requests import ClientDisconnect

from app.errors import BodyTooLarge, NotReady, QueueFull, StartupError, Unauthorized
from app.server.asgi import App, Message, Receive, Scope, Send, header, route_path
from app.server.problem_details import from_service_error, problem
from app.timings import Timings, Trace

SANE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
CLIENT_GONE = 499
"""Status in the metrics of a request whose client left before the answer; nginx uses the same."""

HARDENING = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
"""Headers of every answer that has not its own."""
PROBES = frozenset(("/health/live", "/health/ready", "/metrics"))
"""Asked every few seconds: logged for debugging only, unless they fail."""
OTHER = "other"
"""The path in the log of a request that is to none of ours: what else clients write stays out of it."""
OUTCOMES = {429: "refused", 503: "refused", 504: "late", CLIENT_GONE: "client gone"}
"""Outcomes in the log of statuses that say more than their family does."""

logger = logging.getLogger(__name__)


class RequestObserver(Protocol):
    """What is told about each request that has been answered."""

    def request(self, path: str, status: int, seconds: float, timings: Timings) -> None:
        """A request to `path`, by the name it is counted under, ended with `status` after `seconds`."""


class RequestLog:
    """Gives every request its id, its Timings and its line in the log, and every answer X-Request-ID,
    Server-Timing and HARDENING."""

    def __init__(
        self,
        app: App,
        observer: RequestObserver,
        endpoints: frozenset[str],
        trace_of: Callable[[str], Trace | None] | None = None,
    ) -> None:
        """Wrap an app.

        Args:
            observer: is told of every request.
            endpoints: only these paths are logged by name.
            trace_of: gives the trace of the request that is being served, which is told its id.
        """
        self._app = app
        self._trace_of = trace_of
        self._observer = observer
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope)
        timings = Timings(None if self._trace_of is None else self._trace_of(request_id))
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        state["timings"] = timings
        status = CLIENT_GONE

        async def traced(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                present = {name for name, _ in message["headers"]}
                message["headers"] += (
                    *(header for header in HARDENING if header[0] not in present),
                    (b"x-request-id", request_id.encode()),
                    (b"server-timing", _server_timing(timings, time.perf_counter() - started)),
                )
            await send(message)

        try:
            await self._app(scope, receive, traced)
        except ClientDisconnect:
            logger.debug("the client of request %s has gone", request_id)
        finally:
            seconds = time.perf_counter() - started
            path = self._path(scope)
            self._observer.request(path, status, seconds, timings)
            self._log(scope, path if path in self._endpoints else OTHER, status, seconds, timings)

    def _path(self, scope: Scope) -> str:
        """The path as it is counted: where it has parameters, what stands in their place in its route."""
        path = route_path(scope)
        template: str = getattr(scope.get("route"), "path", path)
        return template if template in self._endpoints else path

    def _log(self, scope: Scope, endpoint: str, status: int, seconds: float, timings: Timings) -> None:
        level = logging.DEBUG if status < 400 and endpoint in PROBES else logging.INFO
        if not logger.isEnabledFor(level):
            return
        # Made here: to look for the line of code that logs would take 3 % of the CPU of a request to /encode.
        record = logging.LogRecord(logger.name, level, __file__, 0, "request", None, None)
        told: dict[str, object] = {
            "request_id": scope["state"]["request_id"],
            "method": scope.get("method"),
            "path": endpoint,
            "status": status,
            "outcome": OUTCOMES.get(status) or ("ok", "rejected", "failed")[max(0, status // 100 - 3)],
            "rows": timings.rows,
            "ms": round(seconds * 1000, 2),
            "stages": {name: round(value * 1000, 2) for name, value in timings.seconds.items()},
        }
        if timings.trace is not None:
            told["trace_id"] = timings.trace.id
        record.request = told
        logger.handle(record)


def _request_id(scope: Scope) -> str:
    given = header(scope, b"x-request-id")
    if given is not None and SANE_REQUEST_ID.fullmatch(given):
        return given.decode()
    return secrets.token_hex(16)


def _server_timing(timings: Timings, total: float) -> bytes:
    parts = (timings.server_timing(), f"total;dur={total * 1000:.2f}")
    return ", ".join(filter(None, parts)).encode()


class FaultsAsProblems:
    """Answers with a problem where an exception would leave the app: 500, with the traceback in the log, and
    503 for what a shutdown interrupts. Stands within CORS, so that pages of other origins may read it."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            raise
        except asyncio.CancelledError:
            if not started:
                late = NotReady("the service was shut down before the request was done")
                await from_service_error(scope, late)(scope, receive, send)
            raise
        except Exception:
            logger.exception("request %s failed", scope["state"]["request_id"])
            if started:
                raise
            detail = "a fault of this service; its log has the request id"
            await problem(scope, 500, detail)(scope, receive, send)


class ApiKey:
    """Lets requests without a known key through to what is open, and to nothing else."""

    def __init__(self, app: App, keys: Sequence[str], is_open: Callable[[str], bool]) -> None:
        """Wrap an app.

        Args:
            keys: any of which is enough.
            is_open: whether a path needs none.
        """
        self._app = app
        self._keys = [key.encode() for key in keys]
        self._is_open = is_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not (self._is_open(route_path(scope)) or self._has_key(scope)):
            refusal = Unauthorized("send a valid key as `Authorization: Bearer <key>` or `X-API-Key: <key>`")
            await from_service_error(scope, refusal)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _has_key(self, scope: Scope) -> bool:
        given = []
        for name, value in scope["headers"]:
            if name == b"x-api-key":
                given.append(value.strip())
            elif name == b"authorization":
                kind, _, credentials = value.strip().partition(b" ")
                if kind.lower() == b"bearer":
                    given.append(credentials.strip())
        # No short cut at the first match: the time taken must not tell which key comes close.
        return sum([hmac.compare_digest(one, key) for one in given for key in self._keys]) > 0


class BodyLimit:
    """Counts the bytes of bodies as they arrive, of each request and of all together."""

    def __init__(self, app: App, max_body_bytes: int, max_held_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._max_held_bytes = max_held_bytes
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            if taken == 0:
                self._check_declared(scope)
            message = await receive()
            size = len(message.get("body", b""))
            taken += size
            self._held += size
            if taken > self._max_body_bytes:
                raise self._too_large()
            if self._held > self._max_held_bytes:
                raise QueueFull("too many request bodies are being received at once; try again later")
            return message

        try:
            await self._app(scope, counted, send)
        finally:
            self._held -= taken

    def _check_declared(self, scope: Scope) -> None:
        declared = header(scope, b"content-length")
        if declared is not None and declared.isdigit() and int(declared) > self._max_body_bytes:
            raise self._too_large()

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"the body is larger than {self._max_body_bytes} bytes, the most that is allowed")


class StartupErrorLine:
    """Reports a refusal to start as its one line instead of a traceback."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        failure: Message | None = None

        async def held_back(message: Message) -> None:
            nonlocal failure
            if message["type"] == "lifespan.startup.failed":
                failure = message
            else:
                await send(message)

        try:
            await self._app(scope, receive, held_back)
        except StartupError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
        except BaseException:
            if failure is not None:
                await send(failure)
            raise
