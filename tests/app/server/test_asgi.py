"""The look-ups of a header and of the routed path."""

import pytest
from starlette.routing import Match, Route

from app.server.asgi import header, route_path

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


@pytest.mark.parametrize(
    ("path", "root", "routed"),
    [
        ("/encode", "", "/encode"),
        ("/cars/encode", "/cars", "/encode"),
        ("/encode", "/cars", "/encode"),
        ("/carsencode", "/cars", "/carsencode"),
        ("/cars", "/cars", ""),
        ("/cars/cars/encode", "/cars", "/cars/encode"),
    ],
)
def test_the_routed_path_is_what_routes_are_matched_with(path: str, root: str, routed: str) -> None:
    scope = {"type": "http", "method": "GET", "path": path, "root_path": root}
    assert route_path(scope) == routed
    route = Route(routed or "/", lambda _: None)
    assert (route.matches(scope)[0] is Match.FULL) == (routed != "")
