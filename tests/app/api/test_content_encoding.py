"""Which encodings of bodies are read, and how gzip is unpacked."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from app.api.content_encoding import MAX_MEMBERS, PIECE, Gunzip, is_gzip
from app.errors import MalformedBody, UnsupportedBody


def request(*codings: str) -> Request:
    return Request(
        {"type": "http", "headers": [(b"content-encoding", coding.encode()) for coding in codings]}
    )


def unpacked(packed: bytes, step: int = 1 << 30) -> bytes:
    gunzip = Gunzip()
    pieces = [piece for at in range(0, len(packed), step) for piece in gunzip.feed(packed[at : at + step])]
    gunzip.end()
    assert all(0 < len(piece) <= PIECE for piece in pieces)
    return b"".join(pieces)


@pytest.mark.parametrize("codings", [["gzip"], ["GZIP"], ["x-gzip"], ["identity, gzip"], ["", " gzip "]])
def test_gzip_is_read(codings: list[str]) -> None:
    assert is_gzip(request(*codings))


@pytest.mark.parametrize("codings", [[], [""], ["identity"], ["Identity", "identity"]])
def test_a_body_as_it_is_is_read(codings: list[str]) -> None:
    assert not is_gzip(request(*codings))


@pytest.mark.parametrize(
    "codings", [["deflate"], ["br"], ["gzip, gzip"], ["gzip", "br"], ["zstd"], ["aws-chunked"]]
)
def test_another_coding_is_refused_with_what_is_read(codings: list[str]) -> None:
    with pytest.raises(UnsupportedBody, match="Content-Encoding") as caught:
        is_gzip(request(*codings))
    assert caught.value.accept_encoding == "gzip"


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4), st.integers(1, 50), st.integers(0, 9))
def test_members_are_joined_however_they_arrive(contents: list[bytes], step: int, level: int) -> None:
    packed = b"".join(gzip.compress(content, level) for content in contents)
    assert unpacked(packed, step) == b"".join(contents)


@pytest.mark.parametrize("size", [PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 3 * PIECE + 100])
def test_nothing_is_lost_at_the_end_of_a_piece(size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    assert unpacked(gzip.compress(content[:size])) == content[:size]


def test_zeros_after_the_end_are_padding() -> None:
    assert unpacked(gzip.compress(b"car", mtime=0) + bytes(100)) == b"car"


@pytest.mark.parametrize(
    "packed",
    [
        b"car",
        zlib.compress(b"car"),
        gzip.compress(b"car", mtime=0)[:-1],
        gzip.compress(b"car", mtime=0)[:5],
        gzip.compress(b"car", mtime=0) + b"more",
        gzip.compress(b"car", mtime=0)[:-8] + bytes(8),
        gzip.compress(b"", mtime=0) * (MAX_MEMBERS + 1),
    ],
)
def test_what_is_no_whole_gzip_is_malformed(packed: bytes) -> None:
    with pytest.raises(MalformedBody, match="gzip"):
        unpacked(packed)


def test_nothing_is_unpacked_before_it_is_asked_for() -> None:
    pieces = Gunzip().feed(gzip.compress(bytes(2**26)))
    assert len(next(pieces)) == PIECE
