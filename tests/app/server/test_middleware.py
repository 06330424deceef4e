"""Middleware: each layer around a small app of its own."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from app.errors import BodyTooLarge, QueueFull, StartupError
from app.server.asgi import App, Message, Receive, Scope, Send
from app.server.middleware import ApiKey, BodyLimit, FaultsAsProblems, RequestLog, StartupErrorLine
from app.server.problem_details import from_service_error
from app.timings import Timings
from tests.app.server.conftest import no_more

PATHS = frozenset(("/a", "/encode"))


class Seen:
    """Records what it is told about requests."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, int, list[str]]] = []

    def request(self, path: str, status: int, seconds: float, timings: Timings) -> None:
        assert seconds >= 0
        self.requests.append((path, status, list(timings.seconds)))


async def answer(send: Send, status: int = 200, body: bytes = b"ok") -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def fine(scope: Scope, _: Receive, send: Send) -> None:
    if "state" in scope:
        scope["state"]["timings"].add("read", 0.001)
    await answer(send)


def client_of(app: App, root_path: str = "") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, root_path=root_path)
    return httpx.AsyncClient(transport=transport, base_url="http://service")


async def test_every_answer_has_an_id_and_its_timings() -> None:
    seen = Seen()
    async with client_of(RequestLog(fine, seen, PATHS)) as client:
        one, other = await client.get("/a"), await client.get("/b")
    assert len(one.headers["x-request-id"]) == 32
    assert one.headers["x-request-id"] != other.headers["x-request-id"]
    assert one.headers["server-timing"].startswith("read;dur=1.00, total;dur=")
    assert seen.requests == [("/a", 200, ["read"]), ("/b", 200, ["read"])]


async def test_a_path_with_parameters_is_counted_as_its_route_has_it() -> None:
    seen = Seen()

    async def routed(scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = Route(f"/{scope['path'][1]}/{{name}}", fine)
        await fine(scope, receive, send)

    async with client_of(RequestLog(routed, seen, frozenset(("/c/{name}",)))) as client:
        for path in ("/c/one", "/c/two", "/d/three"):
            await client.get(path)
    assert [path for path, _, _ in seen.requests] == ["/c/{name}", "/c/{name}", "/d/three"]


@pytest.mark.parametrize("given", ["a", "A.b_c-9", "x" * 128])
async def test_a_sane_request_id_is_kept(given: str) -> None:
    async with client_of(RequestLog(fine, Seen(), PATHS)) as client:
        answered = await client.get("/", headers={"X-Request-ID": given})
    assert answered.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a\tb", "é", 'a"b', "a;b", "a\x00b"])
async def test_any_other_request_id_is_replaced(given: str) -> None:
    async with client_of(RequestLog(fine, Seen(), PATHS)) as client:
        answered = await client.get("/", headers=[(b"X-Request-ID", given.encode("latin-1"))])
    assert len(answered.headers["x-request-id"]) == 32


async def test_an_unexpected_exception_is_hidden_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError("secret")

    seen = Seen()
    async with client_of(RequestLog(FaultsAsProblems(broken), seen, PATHS)) as client:
        answered = await client.get("/a", headers={"X-Request-ID": "mine"})
    assert answered.status_code == 500
    assert answered.headers["content-type"] == "application/problem+json"
    assert answered.json()["request_id"] == answered.headers["x-request-id"] == "mine"
    assert "secret" not in answered.text
    assert "mine" in caplog.text
    assert "secret" in caplog.text
    assert seen.requests == [("/a", 500, [])]


async def test_an_exception_in_the_middle_of_an_answer_breaks_it_off() -> None:
    async def broken(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError

    with pytest.raises(RuntimeError):
        async with client_of(RequestLog(FaultsAsProblems(broken), Seen(), PATHS)) as client:
            await client.get("/")


async def test_a_lost_client_is_counted_and_not_answered(caplog: pytest.LogCaptureFixture) -> None:
    async def lost(*_: Any) -> None:
        raise ClientDisconnect

    seen, sent = Seen(), []

    async def send(message: Message) -> None:
        sent.append(message)

    await RequestLog(lost, seen, PATHS)({"type": "http", "path": "/a", "headers": []}, no_more, send)
    assert seen.requests == [("/a", 499, [])]
    assert sent == []
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_request_cut_off_by_the_shutdown_is_told_so() -> None:
    started = asyncio.Event()

    async def endless(*_: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    layers = RequestLog(FaultsAsProblems(endless), Seen(), PATHS)
    guarded = layers({"type": "http", "path": "/a", "headers": []}, no_more, send)
    task = asyncio.ensure_future(guarded)
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sent[0]["status"] == 503


async def test_every_answer_is_hardened() -> None:
    async def with_its_own(_: Scope, __: Receive, send: Send) -> None:
        headers = [(b"referrer-policy", b"origin")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async with client_of(RequestLog(with_its_own, Seen(), PATHS)) as client:
        headers = (await client.get("/a")).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers.get_list("referrer-policy") == ["origin"]


@pytest.mark.parametrize(
    ("path", "status", "level", "outcome", "logged"),
    [
        ("/a", 200, logging.INFO, "ok", "/a"),
        ("/a", 404, logging.INFO, "rejected", "/a"),
        ("/a", 429, logging.INFO, "refused", "/a"),
        ("/a", 500, logging.INFO, "failed", "/a"),
        ("/a", 504, logging.INFO, "late", "/a"),
        ("/health/ready", 200, logging.DEBUG, "ok", "/health/ready"),
        ("/health/ready", 503, logging.INFO, "refused", "/health/ready"),
        ("/a%0aERROR forged", 404, logging.INFO, "rejected", "other"),
    ],
)
async def test_each_request_is_one_line_of_the_log_without_what_clients_wrote(
    caplog: pytest.LogCaptureFixture, path: str, status: int, level: int, outcome: str, logged: str
) -> None:
    async def app(scope: Scope, _: Receive, send: Send) -> None:
        scope["state"]["timings"].add("read", 0.25)
        scope["state"]["timings"].rows = 3
        await answer(send, status)

    caplog.set_level(logging.DEBUG, "app.server.middleware")
    endpoints = frozenset(("/a", "/health/ready"))
    async with client_of(RequestLog(app, Seen(), endpoints)) as client:
        await client.get(path, headers={"X-Request-ID": "mine", "X-API-Key": "secret"})
    (record,) = caplog.records
    line = record.__dict__["request"]
    assert line.pop("ms") >= 0
    assert line == {
        "request_id": "mine",
        "method": "GET",
        "path": logged,
        "status": status,
        "outcome": outcome,
        "rows": 3,
        "stages": {"read": 250.0},
    }
    assert record.levelno == level


def key_guard(root_path: str = "") -> httpx.AsyncClient:
    def is_open(path: str) -> bool:
        return path in ("/", "/metrics") or path.startswith("/static/")

    guarded = ApiKey(fine, ["first", "second"], is_open)
    return client_of(RequestLog(guarded, Seen(), PATHS), root_path)


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer first"},
        {"Authorization": "bearer second"},
        {"X-API-Key": "second"},
        {"X-API-Key": "first", "Authorization": "Basic eDp5"},
        {"X-API-Key": "foreign", "Authorization": "Bearer first"},
        {"X-API-Key": "first", "Authorization": "Bearer foreign"},
    ],
)
async def test_a_known_key_opens_in_either_header(headers: dict[str, str]) -> None:
    async with key_guard() as client:
        assert (await client.post("/encode", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "first"},
        {"Authorization": "Basic first"},
        {"Authorization": "Bearer third"},
        {"Authorization": "Bearer firs"},
        {"X-API-Key": ""},
        {"X-API-Key": "first,second"},
        {"X-API-Key": "wrong", "Authorization": "Bearer wrong"},
    ],
)
async def test_any_other_key_is_refused(headers: dict[str, str]) -> None:
    async with key_guard() as client:
        answered = await client.post("/encode", headers=headers)
    assert answered.status_code == 401
    assert answered.headers["www-authenticate"].startswith("Bearer")
    assert answered.json()["request_id"] == answered.headers["x-request-id"]


async def test_a_key_that_is_no_ascii_is_merely_wrong() -> None:
    async with key_guard() as client:
        answered = await client.post("/encode", headers=[(b"X-API-Key", b"\xff\xfe")])
    assert answered.status_code == 401


@pytest.mark.parametrize("path", ["/", "/metrics", "/static/5/page.js"])
async def test_what_is_open_needs_no_key(path: str) -> None:
    async with key_guard() as client:
        assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize("path", ["/encode", "/Metrics", "/metrics/", "/static", "/unknown", "/%2e/"])
async def test_whatever_is_not_open_needs_a_key(path: str) -> None:
    async with key_guard() as client:
        assert (await client.get(path)).status_code == 401


@pytest.mark.parametrize(
    ("path", "status"),
    [("/cars/encode", 401), ("/cars/metrics", 200), ("/cars/static/5/page.js", 200), ("/carsmetrics", 401)],
)
async def test_below_a_root_path_the_routed_path_decides(path: str, status: int) -> None:
    async with key_guard(root_path="/cars") as client:
        assert (await client.get(path)).status_code == status


async def test_below_a_root_path_the_routed_path_is_counted() -> None:
    seen = Seen()
    async with client_of(RequestLog(fine, seen, PATHS), root_path="/cars") as client:
        await client.get("/cars/a")
    assert seen.requests == [("/a", 200, ["read"])]


async def reading(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the whole body and answers how long it was."""
    length, more = 0, True
    try:
        while more:
            message = await receive()
            length += len(message.get("body", b""))
            more = message.get("more_body", False)
    except (BodyTooLarge, QueueFull) as error:
        scope.setdefault("state", {"request_id": "id"})
        await from_service_error(scope, error)(scope, receive, send)
        return
    await answer(send, body=str(length).encode())


async def chunks(*sizes: int) -> AsyncIterator[bytes]:
    for size in sizes:
        yield bytes(size)


async def test_a_body_up_to_the_limit_passes() -> None:
    async with client_of(BodyLimit(reading, 100, 1000)) as client:
        assert (await client.post("/", content=bytes(100))).text == "100"
        assert (await client.post("/", content=chunks(60, 40))).text == "100"


async def test_a_declared_length_is_refused_before_anything_is_read() -> None:
    read = False

    async def receive() -> Message:
        nonlocal read
        read = True
        return {"type": "http.request", "body": b"", "more_body": False}

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/", "headers": [(b"content-length", b"101")]}
    await BodyLimit(reading, 100, 1000)(scope, receive, send)
    assert sent[0]["status"] == 413
    assert not read


async def test_chunks_are_counted_as_they_arrive() -> None:
    async with client_of(BodyLimit(reading, 100, 1000)) as client:
        assert (await client.post("/", content=chunks(60, 41))).status_code == 413


async def test_bytes_of_all_requests_are_counted_together() -> None:
    inside, leave = asyncio.Event(), asyncio.Event()

    async def holding(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/hold":
            await receive()
            inside.set()
            await leave.wait()
            await answer(send)
        else:
            await reading(scope, receive, send)

    async with client_of(BodyLimit(holding, 100, 150)) as client:
        held = asyncio.ensure_future(client.post("/hold", content=bytes(100)))
        await inside.wait()
        assert (await client.post("/", content=bytes(50))).status_code == 200
        refused = await client.post("/", content=bytes(51))
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        leave.set()
        assert (await held).status_code == 200
        assert (await client.post("/", content=bytes(100))).status_code == 200


async def lifespan(app: App) -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app({"type": "lifespan"}, receive, send)
    return sent


def failing(error: Exception) -> App:
    async def app(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "lifespan.startup.failed", "message": "Traceback ..."})
        raise error

    return app


async def test_a_refusal_to_start_is_one_line() -> None:
    messages = await lifespan(StartupErrorLine(failing(StartupError("no model there"))))
    assert messages == [{"type": "lifespan.startup.failed", "message": "no model there"}]


async def test_other_failures_to_start_keep_their_traceback() -> None:
    with pytest.raises(ValueError, match="bug"):
        await lifespan(StartupErrorLine(failing(ValueError("bug"))))
