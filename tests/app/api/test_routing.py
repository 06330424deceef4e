"""How requests come to their handlers, and what is said of encodings that are not read."""

from typing import Any

import httpx
import pytest

from app.api.content_negotiation import REPRESENTATIONS, Format, path_with
from app.api.endpoints import model as endpoints
from app.api.routing import has_suffix, paths
from app.main import OPENAPI, create_app
from app.settings import Settings
from tests.app.api.requests import check_problem
from tests.app.conftest import Serve
from tests.images import file_of, photograph


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


FORMATS: dict[str, tuple[Format, ...]] = {
    "/encode": ("json", "npy"),
    "/decode": ("png", "jpeg", "webp", "avif", "json"),
    "/reconstruct": ("png", "jpeg", "webp", "avif", "json"),
    "/sample": ("png", "jpeg", "webp", "avif", "json", "npy"),
    "/interpolate": ("png", "jpeg", "webp", "avif", "gif", "json", "npy"),
}


def test_paths_are_those_of_the_routes() -> None:
    suffixed = {path_with(path, name) for path, names in FORMATS.items() for name in names}
    assert set(paths(endpoints.router)) == suffixed | set(FORMATS)


def test_paths_without_suffix_are_tried_first(settings: Settings) -> None:
    *ours, of_fastapi = create_app(settings).router.routes
    assert getattr(of_fastapi, "path", "") == OPENAPI
    tried = [has_suffix(route) for route in ours]
    assert tried == sorted(tried)
    assert 0 < sum(tried) < len(tried)


@pytest.mark.parametrize(("path", "name"), [(path, name) for path in FORMATS for name in FORMATS[path]])
async def test_a_suffix_names_the_format_whatever_else_is_asked_for(
    client: httpx.AsyncClient, path: str, name: Format
) -> None:
    files = [("image", file_of(photograph(seed=seed))) for seed in range(2)]
    latents = (await client.post("/encode", files=files)).json()["latents"]
    body: dict[str, Any] = {
        "/decode": {"json": {"latents": latents}},
        "/sample": {"json": {"seed": 3}},
    }.get(path, {"files": files})
    other: Format = "png" if name == "json" and path != "/encode" else "json"
    headers = {"Accept": REPRESENTATIONS[other].media_type}
    suffixed = await client.post(f"{path_with(path, name)}?format={other}", headers=headers, **body)
    assert suffixed.headers["content-type"] == REPRESENTATIONS[name].media_type
    assert suffixed.content == (await client.post(f"{path}?format={name}", **body)).content


@pytest.mark.parametrize("name", FORMATS["/sample"])
async def test_an_address_is_an_image(client: httpx.AsyncClient, name: Format) -> None:
    answer = await client.get(f"{path_with('/sample', name)}?seed=3&size=64")
    assert answer.content == (await client.get(f"/sample?seed=3&size=64&format={name}")).content
    head = await client.head(f"{path_with('/sample', name)}?seed=3&size=64")
    assert (head.content, head.headers["content-length"]) == (b"", answer.headers["content-length"])


@pytest.mark.parametrize("path", ["/sample.jpeg", "/encode.png", "/decode.gif", "/sample.", "/sample.PNG"])
async def test_a_suffix_that_is_not_offered_is_no_path(client: httpx.AsyncClient, path: str) -> None:
    check_problem(await client.post(path, json={}), 404)


async def test_a_key_is_asked_for_at_every_path(serve: Serve) -> None:
    async with serve(api_keys="key") as client:
        for path in paths(endpoints.router):
            check_problem(await client.post(path), 401)
