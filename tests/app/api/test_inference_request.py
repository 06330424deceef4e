"""What a request for the model brings, packed or not, and which formats may hold its answer."""

import gzip
import json
from typing import Any

import httpx
import pytest

from app.api.content_negotiation import REPRESENTATIONS, Representation
from tests.app.api.requests import AS_JSON, JPEG, LATENTS, check_problem, form
from tests.app.conftest import Serve, state_behind
from tests.images import array_of
from tests.tiny_model import HEIGHT, WIDTH


async def post_packed(client: httpx.AsyncClient, path: str, body: bytes, content_type: str) -> httpx.Response:
    headers = {"Content-Type": content_type, "Content-Encoding": "gzip"}
    return await client.post(path, content=gzip.compress(body), headers=headers)


async def test_a_packed_body_is_read_as_the_plain_one(client: httpx.AsyncClient) -> None:
    multipart = client.build_request("POST", "/encode", files=form(JPEG, JPEG))
    bodies = {
        "/sample": (b'{"seed": 3}', "application/json"),
        "/decode": (json.dumps({"latents": LATENTS}).encode(), "application/json"),
        "/interpolate": (json.dumps({"latents": LATENTS}).encode(), "application/json"),
        "/encode": (JPEG, "image/jpeg"),
        "/reconstruct": (multipart.read(), multipart.headers["content-type"]),
    }
    for path, (body, content_type) in bodies.items():
        plain = await client.post(path, content=body, headers={"Content-Type": content_type})
        packed = await post_packed(client, path, body, content_type)
        assert packed.status_code == 200
        assert packed.content == plain.content
    assert state_behind(client).unpacked_bytes == 0


async def test_what_a_body_unpacks_to_is_limited_as_a_body_is(serve: Serve) -> None:
    async with serve(max_body_bytes=20_000) as client:
        assert (
            await post_packed(client, "/sample", b" " * 19_000 + b"{}", "application/json")
        ).status_code == 200
        refused = await post_packed(client, "/sample", b" " * 20_000 + b"{}", "application/json")
        assert "unpacks to more than 20000 bytes" in check_problem(refused, 413)["detail"]
        assert state_behind(client).unpacked_bytes == 0


async def test_what_all_bodies_unpack_to_is_limited(serve: Serve) -> None:
    async with serve(max_held_bytes=20_000) as client:
        state_behind(client).unpacked_bytes = 15_000
        refused = await post_packed(client, "/sample", b" " * 6_000 + b"{}", "application/json")
        check_problem(refused, 429)
        assert state_behind(client).unpacked_bytes == 15_000
        assert (await post_packed(client, "/sample", b"{}", "application/json")).status_code == 200


@pytest.mark.parametrize("query", ["", "?size=48"])
@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("image/webp, image/jpeg;q=0.9", "image/jpeg"),
        ("image/webp, */*;q=0.1", "image/png"),
        ("image/webp, application/json;q=0.5, image/*;q=0", "application/json"),
        ("image/webp, image/gif;q=0.5", "image/gif"),
    ],
)
async def test_the_next_format_is_taken_where_the_first_cannot_hold_the_answer(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, query: str, accept: str, chosen: str
) -> None:
    narrow = Representation("webp", "image/webp", 8 * (48 if query else WIDTH) - 1)
    monkeypatch.setitem(REPRESENTATIONS, "webp", narrow)
    body = {"latents": LATENTS[:2]}
    answer = await client.post(f"/interpolate{query}", json=body, headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == chosen
    short = await client.post(f"/interpolate{query}", json=body | {"steps": 2}, headers={"Accept": accept})
    assert short.headers["content-type"] == "image/webp"


async def test_where_no_acceptable_format_holds_the_answer_it_is_refused(serve: Serve) -> None:
    async with serve(max_output_pixels=10**9) as client:
        body = {"latents": LATENTS[:2], "steps": 64}
        for address in ("/interpolate?size=257", "/interpolate?size=2048"):
            refused = await client.post(address, json=body, headers={"Accept": "image/webp"})
            check_problem(refused, 406)
        fits = await client.post("/interpolate?size=255", json=body, headers={"Accept": "image/webp"})
        assert array_of(fits.content).shape[1] == 64 * 255
        refused = await client.post(
            "/interpolate?size=2048", json=body, headers={"Accept": "image/webp,image/jpeg"}
        )
        check_problem(refused, 406)


@pytest.mark.parametrize(
    ("address", "body"),
    [
        ("/interpolate?format=webp&size=257", {"latents": LATENTS[:2], "steps": 64}),
        ("/interpolate.webp?size=257", {"latents": LATENTS[:2], "steps": 64}),
        ("/interpolate?format=jpeg&size=1024", {"latents": LATENTS[:2], "steps": 64}),
        ("/decode?format=webp&size=2048", {"latents": (LATENTS * 22)[:64]}),
        ("/sample?format=webp&size=2048&count=64", {}),
    ],
)
async def test_a_format_that_was_named_and_cannot_hold_the_answer_is_refused_before_inference(
    serve: Serve, address: str, body: Any
) -> None:
    async with serve(max_output_pixels=10**9) as client:
        problem = check_problem(await client.post(address, json=body), 422)
        assert problem["errors"][0]["place"] == ("query.format" if "format" in address else "path")
        assert "pixels a side" in problem["detail"]
        assert "inference" not in (await client.post(address, json=body)).headers["server-timing"]


async def test_the_widest_answer_that_a_format_holds_is_made(serve: Serve) -> None:
    async with serve(max_output_pixels=10**9) as client:
        body = {"latents": LATENTS[:2], "steps": 63}
        answer = await client.post("/interpolate?format=webp&size=260", json=body)
        assert array_of(answer.content).shape[1] == 63 * 260 == 16_380
        check_problem(await client.post("/interpolate?format=webp&size=261", json=body), 422)


async def test_frames_and_images_in_json_are_no_row(serve: Serve) -> None:
    async with serve() as client:
        body = {"latents": LATENTS[:2], "steps": 64}
        assert (await client.post("/interpolate?format=gif&size=300", json=body)).status_code == 200
        assert (await client.post("/interpolate?size=300", json=body, headers=AS_JSON)).status_code == 200


async def test_limits_are_of_each_side(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = Representation("jpg", "image/jpeg", 2 * WIDTH)
    monkeypatch.setitem(REPRESENTATIONS, "jpeg", narrow)
    async with serve() as client:
        body = {"latents": LATENTS}
        grid = await client.post("/decode?format=jpeg", json=body)
        assert array_of(grid.content).shape[:2] == (2 * HEIGHT, 2 * WIDTH)
        check_problem(await client.post("/decode?format=jpeg", json={"latents": LATENTS * 2}), 422)
