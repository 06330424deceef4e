"""Compression of answers: JSON is packed with gzip for clients that take it, where that is worth its time."""

import asyncio
from functools import partial

from isal import isal_zlib
from starlette.datastructures import Headers, MutableHeaders

from app.server.asgi import App, Message, Receive, Scope, Send

JSON_TYPE = (b"content-type", b"application/json")
MIN_BYTES = 4096
"""Shortest JSON that is packed: a latent and its deviations, 5.6 kB, become 2.5 in 15 us; what is shorter
fits few packets as it is."""
INLINE_BYTES = 65_536
"""Most bytes that are packed on the event loop, at 2 to 3 ns each."""
LEVEL = 1
"""Of ISA-L: level 0 takes as long for half of what is saved, or nothing of data URLs, and the higher ones 1 %
more than this."""
GZIP_FORMAT = 31


class Compression:
    """Packs whole JSON answers of MIN_BYTES and more; what is encoded already, or sent in pieces, stays as it
    is.

    Numbers become half as long and data URLs lose what base64 adds to them, a quarter, at 1 ms for 100 to
    200 kB saved: the client has them sooner over all that is slower than about a gigabit a second.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        held: Message | None = None

        async def packing(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start" and JSON_TYPE in message["headers"]:
                held = message
                return
            if held is not None:
                start, held = held, None
                if not message.get("more_body", False):
                    message = await _packed(scope, start, message)
                await send(start)
            await send(message)

        await self._app(scope, receive, packing)


async def _packed(scope: Scope, start: Message, message: Message) -> Message:
    """The body as it is to be sent; the headers before it, in `start`, are brought into agreement."""
    body: bytes = message.get("body", b"")
    headers = MutableHeaders(raw=start["headers"])
    headers.add_vary_header("Accept-Encoding")
    if len(body) < MIN_BYTES or "content-encoding" in headers or not takes_gzip(Headers(scope=scope)):
        return message
    pack = partial(isal_zlib.compress, body, LEVEL, GZIP_FORMAT)
    packed = pack() if len(body) <= INLINE_BYTES else await asyncio.to_thread(pack)
    headers["Content-Encoding"] = "gzip"
    headers["Content-Length"] = str(len(packed))
    return {**message, "body": packed}


def takes_gzip(headers: Headers) -> bool:
    """Whether gzip is acceptable and liked as much as plain content (RFC 9110, 12.5.3)."""
    qualities: dict[str, float] = {}
    for element in ",".join(headers.getlist("accept-encoding")).lower().split(","):
        name, *parameters = (part.strip() for part in element.split(";"))
        given = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        try:
            qualities[name] = float(given)
        except ValueError:
            continue
    gzip = qualities.get("gzip", qualities.get("x-gzip", qualities.get("*", 0.0)))
    return gzip > 0 and gzip >= qualities.get("identity", 0.0)
