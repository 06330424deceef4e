"""How requests come to their handlers, and what is said of encodings that are not read."""

import httpx
import pytest

from app.api import endpoints
from app.api.routing import paths
from tests.app.api.test_endpoints import check_problem


@pytest.mark.parametrize("coding", ["deflate", "br", "zstd", "gzip, gzip", "compress"])
@pytest.mark.parametrize("path", ["/encode", "/decode", "/reconstruct", "/sample", "/interpolate"])
async def test_a_coding_that_is_not_read_is_answered_with_the_one_that_is(
    client: httpx.AsyncClient, path: str, coding: str
) -> None:
    media_type = "image/jpeg" if path in ("/encode", "/reconstruct") else "application/json"
    headers = {"Content-Type": media_type, "Content-Encoding": coding}
    answer = await client.post(path, content=b"x", headers=headers)
    assert f"Content-Encoding '{coding}'" in check_problem(answer, 415)["detail"]
    assert answer.headers["accept-encoding"] == "gzip"


async def test_a_body_of_another_type_has_nothing_to_do_with_codings(client: httpx.AsyncClient) -> None:
    answer = await client.post("/encode", content=b"x", headers={"Content-Type": "text/plain"})
    check_problem(answer, 415)
    assert "accept-encoding" not in answer.headers


def test_paths_are_those_of_the_routes() -> None:
    assert set(paths(endpoints.router)) == {"/encode", "/decode", "/reconstruct", "/sample", "/interpolate"}
