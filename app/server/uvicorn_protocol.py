"""LimitedHttpProtocol: uvicorn's connection, closed on clients that send or read too slowly, and bounded."""

import logging
import secrets
from asyncio import AbstractEventLoop, TimerHandle, Transport
from typing import Any

import httptools
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from app.server.problem_details import problem
from app.settings import Settings

MAX_HEAD_BYTES = 64 * 2**10
"""Most bytes of a request's first line and headers, and of all else that is not its body."""
HEADER_OVERHEAD = len(": \r\n")
CHUNK_OVERHEAD = 8
"""Bytes around a chunk of one byte, the least efficient that there is."""
LEAST_PROGRESS = 64 * 2**10
"""Bytes of its answer that a client has to take in each send_timeout."""
LINGER = 2.0
"""Seconds in which a client that was refused may read why."""
HOP_BY_HOP = frozenset((b"upgrade", b"http2-settings"))
"""Headers of an offer to go on in another protocol, and what Connection says of it."""

logger = logging.getLogger("uvicorn.error")


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
        self._received = self._of_body = self._of_head = 0
        self._idle_since = self.loop.time()
        self._lingering: TimerHandle | None = None
        self._all_lingering: set[LimitedHttpProtocol] = app_state.setdefault("lingering", set())

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Make room if there is none, and wait for the first request."""
        super().connection_made(transport)
        if len(self.connections) > self._settings.max_connections:
            self._make_room()
        if self._lingering is None:
            self._wait_for_headers()

    def _make_room(self) -> None:
        others = [other for other in self.connections if isinstance(other, LimitedHttpProtocol)]
        idle = [other for other in others if other.idle and other is not self]
        # It may have sent its next request already, and then this is the answer.
        given_up = min(idle, key=lambda other: other._idle_since, default=self)
        given_up._refuse(503, "too many connections; try again later")

    @property
    def idle(self) -> bool:
        """Whether it waits for a request."""
        return self.cycle is None or bool(self.cycle.response_complete)

    def data_received(self, data: bytes) -> None:
        """Hand bytes to the parser, and see whether the client makes progress."""
        if self._lingering is not None or self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        self._parse(data)
        self._received += len(data)
        too_much = MAX_HEAD_BYTES + CHUNK_OVERHEAD * self._of_body + len(data)
        if self._of_head > MAX_HEAD_BYTES or self._received - self._of_body > too_much:
            self._refuse(431, f"the headers are larger than {MAX_HEAD_BYTES} bytes")
        elif not self.idle:
            self._stop_waiting_for_headers()
        elif self._headers_due is None and self._lingering is None:
            self._wait_for_headers()

    def _parse(self, data: bytes) -> None:
        """Feed the parser. At an offer to upgrade it stops behind the headers, and takes what follows for
        another protocol, which no offer makes it: the request is parsed again, without the offer."""
        rest = memoryview(data)
        try:
            while True:
                try:
                    self.parser.feed_data(rest)
                    return
                except httptools.HttpParserUpgrade as offer:
                    if self._is_tunnel():
                        return
                    head = self._head_without_offer()
                    self.parser = httptools.HttpRequestParser(self)
                    self.parser.feed_data(head)
                    rest = rest[offer.args[0] :]
        except httptools.HttpParserError:
            message = "Invalid HTTP request received."
            logger.warning(message)
            self.send_400_response(message)

    def _is_tunnel(self) -> bool:
        return bool(self.parser.get_method() == b"CONNECT")

    def _head_without_offer(self) -> bytes:
        """The first line and the headers of the request, as they came but for the offer."""
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        for name, value in self.headers:
            if name == b"connection":
                options = [option.strip() for option in value.split(b",")]
                value = b", ".join(option for option in options if option.lower() not in HOP_BY_HOP)
            if value and name not in HOP_BY_HOP:
                lines.append(b"%s: %s" % (name, value))
        return b"\r\n".join([*lines, b"", b""])

    def on_message_begin(self) -> None:
        """Count from here."""
        self._received = self._of_body = self._of_head = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count what belongs to the head."""
        self._of_head += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count what belongs to the head."""
        self._of_head += len(name) + len(value) + HEADER_OVERHEAD
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin with the request, unless it is refused or will be parsed again."""
        if self._of_head <= MAX_HEAD_BYTES and not self._has_offer():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End the body, as `on_headers_complete` began it."""
        if self._of_head <= MAX_HEAD_BYTES and not self._has_offer():
            super().on_message_complete()

    def _has_offer(self) -> bool:
        return bool(self.parser.should_upgrade()) and not self._is_tunnel()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection of a client that closed its side after its request until it has the answer."""
        if self.idle or self._lingering is not None:
            return False
        self.cycle.keep_alive = False  # of the last request that has come
        return not self.cycle.more_body

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
            self.transport.abort()
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
        self._linger()

    def _linger(self) -> None:
        """Close when the client does, or soon: closed with bytes of it unread, the connection would be reset
        before the client has read the answer (RFC 9112, 9.6)."""
        if not self.idle:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._stop_waiting_for_headers()
        self.connections.discard(self)
        if self.pipeline or len(self._all_lingering) >= self._settings.max_connections:
            self.transport.close()
            return
        self._all_lingering.add(self)
        self.flow.resume_reading()
        self.transport.write_eof()
        self._lingering = self.loop.call_later(LINGER, self.transport.abort)

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
        if self._lingering is not None:
            self._lingering.cancel()
            self._all_lingering.discard(self)
        super().connection_lost(exc)

    def _stop_waiting_for_headers(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None

    def _stop_watching_sending(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
