"""Which answers are packed, for whom, and that they are what they were."""

import gzip
from collections.abc import Awaitable, Callable

import httpx
import pytest
from starlette.datastructures import Headers

from app.server.asgi import Receive, Scope, Send
from app.server.compression import INLINE_BYTES, MIN_BYTES, Compression, takes_gzip

GZIP = {"Accept-Encoding": "gzip"}
PLAIN = {"Accept-Encoding": "identity"}


def sending(
    *chunks: bytes, kind: str = "application/json", **headers: str
) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    async def app(_: Scope, __: Receive, send: Send) -> None:
        given = {"content-type": kind, "content-length": str(sum(map(len, chunks)))} | headers
        raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        for number, chunk in enumerate(chunks, start=1):
            more = number < len(chunks)
            await send({"type": "http.response.body", "body": chunk, "more_body": more})

    return app


async def raw_answer(
    app: Callable[[Scope, Receive, Send], Awaitable[None]], headers: dict[str, str]
) -> tuple[httpx.Headers, bytes]:
    """What is sent, as it is sent."""
    transport = httpx.ASGITransport(Compression(app))
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://service") as client,
        client.stream("GET", "/", headers=headers) as answer,
    ):
        return answer.headers, b"".join([chunk async for chunk in answer.aiter_raw()])


@pytest.mark.parametrize("size", [MIN_BYTES, INLINE_BYTES, INLINE_BYTES + 1])
async def test_long_json_is_packed_for_those_who_take_it(size: int) -> None:
    body = (b'{"latents": [0.12345, -1.5]}' * size)[:size]
    headers, packed = await raw_answer(sending(body), GZIP)
    assert headers["content-encoding"] == "gzip"
    assert headers["vary"] == "Accept-Encoding"
    assert int(headers["content-length"]) == len(packed) < size / 10
    assert gzip.decompress(packed) == body
    headers, plain = await raw_answer(sending(body), PLAIN)
    assert "content-encoding" not in headers
    assert headers["vary"] == "Accept-Encoding"
    assert (plain, headers["content-length"]) == (body, str(size))


async def test_short_json_is_not_packed() -> None:
    body = b"1" * (MIN_BYTES - 1)
    headers, sent = await raw_answer(sending(body), GZIP)
    assert sent == body
    assert "content-encoding" not in headers


@pytest.mark.parametrize("kind", ["image/png", "application/problem+json", "application/x-npy", "text/plain"])
async def test_nothing_else_is_packed(kind: str) -> None:
    body = b"1" * 10_000
    headers, sent = await raw_answer(sending(body, kind=kind), GZIP)
    assert sent == body
    assert "content-encoding" not in headers
    assert "vary" not in headers


async def test_nothing_is_packed_twice() -> None:
    body = gzip.compress(bytes(10**7))
    headers, sent = await raw_answer(sending(body, content_encoding="gzip"), GZIP)
    assert sent == body
    assert headers["content-length"] == str(len(body))


async def test_an_answer_in_pieces_is_sent_in_pieces() -> None:
    headers, sent = await raw_answer(sending(b"[1,", b"2" * 10_000, b"]"), GZIP)
    assert sent == b"[1," + b"2" * 10_000 + b"]"
    assert "content-encoding" not in headers


async def test_what_else_an_answer_varies_by_is_kept() -> None:
    headers, _ = await raw_answer(sending(b"1" * MIN_BYTES, vary="Accept"), GZIP)
    assert headers["vary"] == "Accept, Accept-Encoding"


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ([], False),
        (["gzip"], True),
        (["x-gzip"], True),
        (["*"], True),
        (["br, GZIP;q=0.5"], True),
        (["deflate", "gzip"], True),
        (["gzip;q=0"], False),
        (["br"], False),
        (["gzip;q=0.2, identity;q=0.5"], False),
        (["gzip;q=x"], False),
        (["*;q=0"], False),
    ],
)
def test_who_takes_gzip(given: list[str], taken: bool) -> None:
    assert takes_gzip(Headers(raw=[(b"accept-encoding", each.encode()) for each in given])) is taken
