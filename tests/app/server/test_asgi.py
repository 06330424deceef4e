"""The look-up of a header."""

import pytest

from app.server.asgi import header

HEADERS = [(b"accept", b"image/png"), (b"x-api-key", b"first"), (b"x-api-key", b"second")]


@pytest.mark.parametrize(
    ("name", "value"),
    [(b"accept", b"image/png"), (b"x-api-key", b"first"), (b"host", None), (b"Accept", None)],
)
def test_the_first_header_of_a_lower_case_name_is_found(name: bytes, value: bytes | None) -> None:
    assert header({"headers": HEADERS}, name) == value


def test_what_a_server_gives_as_another_kind_of_bytes_comes_as_bytes() -> None:
    found = header({"headers": [(b"accept", bytearray(b"image/png"))]}, b"accept")
    assert type(found) is bytes
