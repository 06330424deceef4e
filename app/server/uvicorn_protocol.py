"""LimitedHttpProtocol: uvicorn's connection, closed on clients that send or read too slowly, and bounded."""

import secrets
from asyncio import AbstractEventLoop, TimerHandle, Transport
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from app.server.problem_details import problem
from app.settings import Settings

MAX_HEAD_BYTES = 64 * 2**10
"""Most bytes of a request beyond its body: its headers, trailers and the frames of its chunks."""
CHUNK_OVERHEAD = 8
"""Bytes around a chunk of one byte, the least efficient that there is."""
LEAST_PROGRESS = 64 * 2**10
"""Bytes of its answer that a client has to take in each send_timeout."""


class LimitedHttpProtocol(HttpToolsProtocol):
    """A connection that is closed when its client keeps it waiting: for headers, or in taking the answer.

    The timers are set only while there is something to wait for that is already late, so that quick requests
    never meet one. The deadline for bodies lies with those who read them.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: AbstractEventLoop | None = None,
    ) -> None:
        """Called by uvicorn for every connection; the app's lifespan has put its settings into its state."""
        super().__init__(config, server_state, app_state, _loop)
        self._settings: Settings = app_state["settings"]
        self._headers_due: TimerHandle | None = None
        self._sending: TimerHandle | None = None
        self._unsent = 0
        self._received = self._of_body = 0
        self._idle_since = self.loop.time()

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Make room if there is none, and wait for the first request."""
        super().connection_made(transport)
        if len(self.connections) > self._settings.max_connections:
            self._make_room()
        self._wait_for_headers()

    def _make_room(self) -> None:
        others = [other for other in self.connections if isinstance(other, LimitedHttpProtocol)]
        idle = [other for other in others if other.idle and other is not self]
        if idle:
            min(idle, key=lambda other: other._idle_since).abort()
        else:
            self._refuse(503, "too many connections; try again later")

    @property
    def idle(self) -> bool:
        """Whether it waits for a request."""
        return self.cycle is None or bool(self.cycle.response_complete)

    def abort(self) -> None:
        """Close at once, whatever has not been sent."""
        self.connections.discard(self)
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Hand bytes to the parser, and see whether the client makes progress."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._received += len(data)
        if self._received - self._of_body > MAX_HEAD_BYTES + CHUNK_OVERHEAD * self._of_body + len(data):
            self._refuse(431, f"the headers are larger than {MAX_HEAD_BYTES} bytes")
        elif not self.idle:
            self._stop_waiting_for_headers()
        elif self._headers_due is None:
            self._wait_for_headers()

    def on_message_begin(self) -> None:
        """Count from here."""
        self._received = self._of_body = 0
        super().on_message_begin()

    def on_body(self, body: bytes) -> None:
        """Count what belongs to the body."""
        self._of_body += len(body)
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP as every other error is answered."""
        self._refuse(400, msg)

    def _refuse(self, status: int, detail: str) -> None:
        if self.transport.is_closing():
            return
        if not self.idle and self.cycle.response_started:
            self.abort()
            return
        request_id = secrets.token_hex(16)
        answer = problem({"state": {"request_id": request_id}}, status, detail)
        headers = [
            *answer.raw_headers,
            (b"x-request-id", request_id.encode()),
            (b"connection", b"close"),
        ]
        head = b"".join(b"%s: %s\r\n" % header for header in headers)
        phrase = b"HTTP/1.1 %d \r\n" % status
        self.transport.write(phrase + head + b"\r\n" + bytes(answer.body))
        self.transport.close()

    def _wait_for_headers(self) -> None:
        self._headers_due = self.loop.call_later(self._settings.header_timeout, self._on_headers_late)

    def _on_headers_late(self) -> None:
        self._headers_due = None
        self.transport.abort()

    def pause_writing(self) -> None:
        """The client takes less than is sent: watch it."""
        super().pause_writing()
        self._watch_sending()

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        self._stop_watching_sending()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, and do not wait for ever for the rest of an answer to be taken."""
        super().timeout_keep_alive_handler()
        if self._sending is None and self.transport.get_write_buffer_size():
            self._watch_sending()

    def _watch_sending(self) -> None:
        self._unsent = self.transport.get_write_buffer_size()
        self._sending = self.loop.call_later(self._settings.send_timeout, self._on_send_time_over)

    def _on_send_time_over(self) -> None:
        self._sending = None
        if self.transport.get_write_buffer_size() > self._unsent - LEAST_PROGRESS:
            self.transport.abort()
        else:
            self._watch_sending()

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave no timer behind."""
        self._stop_waiting_for_headers()
        self._stop_watching_sending()
        super().connection_lost(exc)

    def _stop_waiting_for_headers(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None

    def _stop_watching_sending(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
