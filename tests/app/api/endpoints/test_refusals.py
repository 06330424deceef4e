"""What all endpoints refuse: images that cannot be used, wrong paths, methods and keys."""

from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.app.api.requests import JPEG, LATENTS, PNG, check_problem, form, post_image
from tests.app.conftest import Serve
from tests.images import announced_png, file_of


@pytest.mark.parametrize("path", ["/encode", "/reconstruct", "/interpolate"])
async def test_the_image_that_fails_is_named(client: httpx.AsyncClient, path: str) -> None:
    noise = np.random.RandomState(0).randint(0, 256, (60, 90, 3), dtype=np.uint8)
    truncated = file_of(Image.fromarray(noise), "JPEG")[:2000]
    problem = check_problem(await client.post(path, files=form(JPEG, JPEG, truncated)), 400)
    assert problem["detail"].startswith("image 3 of 3: ")
    for file in (b"", truncated):
        problem = check_problem(await client.post(path, files=form(JPEG, file, JPEG)), 400)
        assert problem["detail"].startswith("image 2 of 3: ")
    problem = check_problem(await client.post(path, files=form(JPEG, b"text", b"")), 415)
    assert problem["detail"].startswith("image 2 of 3: ")


async def test_an_image_of_too_many_pixels_is_refused_by_its_header(client: httpx.AsyncClient) -> None:
    answer = await post_image(client, "/encode", announced_png(50_000, 50_000))
    assert "50000 x 50000" in check_problem(answer, 413)["detail"]


@pytest.mark.parametrize("path", ["/encode", "/reconstruct"])
async def test_more_images_than_allowed_are_refused(serve: Serve, path: str) -> None:
    async with serve(max_items=2) as client:
        assert (await client.post(path, files=form(JPEG, JPEG))).status_code == 200
        check_problem(await client.post(path, files=form(JPEG, JPEG, JPEG)), 413)


async def test_more_latents_than_allowed_are_refused(serve: Serve) -> None:
    async with serve(max_items=2) as client:
        assert (await client.post("/decode", json={"latents": LATENTS[:2]})).status_code == 200
        check_problem(await client.post("/decode", json={"latents": LATENTS}), 413)
        check_problem(await client.get("/sample?count=3"), 413)


async def test_a_body_beyond_the_limit_is_refused(serve: Serve) -> None:
    async with serve(max_body_bytes=2000) as client:
        check_problem(await post_image(client, "/encode", bytes(2001)), 413)

        async def chunks() -> Any:
            for _ in range(3):
                yield bytes(1000)

        answer = await client.post("/encode", content=chunks(), headers={"Content-Type": "image/png"})
        check_problem(answer, 413)


@pytest.mark.parametrize("path", ["/encode", "/reconstruct"])
async def test_a_body_without_an_image_is_refused(client: httpx.AsyncClient, path: str) -> None:
    check_problem(await client.post(path, json={"latents": LATENTS}), 415)
    check_problem(await client.post(path, content=b"x"), 415)
    check_problem(await client.post(path, data={"image": "x"}), 415)
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    check_problem(
        await client.post(path, content=b"--x--", headers={"Content-Type": "multipart/form-data"}), 400
    )
    check_problem(await client.post(path, content=b"--x\r\nbroken", headers=headers), 400)
    problem = check_problem(await client.post(path, content=b"--x--\r\n", headers=headers), 422)
    assert problem["errors"][0]["place"] == "image"
    for name in ("file", "files", "images", "image[]", "photo", "picture"):
        for files in ([(name, ("x", JPEG))], [*form(JPEG), (name, ("x", JPEG))]):
            problem = check_problem(await client.post(path, files=files), 422)
            assert problem["errors"] == [{"place": name, "message": "unknown field; did you mean `image`?"}]
    large = await client.post(path, files=[("file", bytes(50_000))])
    assert "the field `image`" in check_problem(large, 422)["detail"]


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        ("/decode", {"json": {"latents": LATENTS, "size": 64}}, "size"),
        ("/sample", {"json": {"format": "webp"}}, "format"),
        ("/interpolate", {"json": {"latents": LATENTS[:2], "animate": True}}, "animate"),
        ("/interpolate", {"files": form(JPEG, PNG), "data": {"animate": "true"}}, "animate"),
        ("/encode", {"files": form(JPEG), "data": {"seed": "3"}}, "seed"),
        ("/reconstruct", {"files": form(JPEG), "data": {"size": "64"}}, "size"),
    ],
)
async def test_an_option_of_the_query_in_a_body_is_told_its_place(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], name: str
) -> None:
    problem = check_problem(await client.post(path, **body), 422)
    message = f"unknown field; `{name}` is an option of the query, ?{name}="
    assert problem["errors"] == [{"place": name, "message": message}]


async def test_decode_refuses_images(client: httpx.AsyncClient) -> None:
    check_problem(await post_image(client, "/decode", JPEG), 415)


@pytest.mark.parametrize(
    "path", ["/nothing", "/encode/", "/Encode", "/static/../settings.py", "/static/none.js"]
)
async def test_an_unknown_path_is_not_found(client: httpx.AsyncClient, path: str) -> None:
    check_problem(await client.get(path), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/encode", {"POST"}),
        ("PUT", "/reconstruct", {"POST"}),
        ("DELETE", "/sample", {"GET", "HEAD", "POST"}),
        ("POST", "/model", {"GET", "HEAD"}),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(
    client: httpx.AsyncClient, method: str, path: str, allowed: set[str]
) -> None:
    answer = await client.request(method, path)
    check_problem(answer, 405)
    assert set(answer.headers["allow"].replace(" ", "").split(",")) == allowed


async def test_keys_guard_inference_only(serve: Serve) -> None:
    async with serve(api_keys="one,two") as client:
        for path in ("/encode", "/decode", "/reconstruct", "/sample", "/interpolate"):
            check_problem(await client.post(path, headers={"X-API-Key": "three"}), 401)
        check_problem(await client.get("/sample"), 401)
        for path in ("/", "/model", "/metrics", "/health/live", "/health/ready", "/docs", "/openapi.json"):
            assert (await client.get(path)).status_code == 200
        answer = await client.get("/sample", headers={"Authorization": "Bearer two"})
        assert answer.status_code == 200


async def test_pages_of_allowed_origins_only_may_read_answers(serve: Serve) -> None:
    preflight = {
        "Origin": "https://example.org",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-api-key,traceparent,baggage",
    }
    async with serve(cors_origins="https://example.org", api_keys="key") as client:
        answer = await client.options("/encode", headers=preflight)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://example.org"
        assert "traceparent" in answer.headers["access-control-allow-headers"]
        assert "access-control-allow-credentials" not in answer.headers
        refused = await client.post("/encode", headers={"Origin": "https://example.org"})
        check_problem(refused, 401)
        assert refused.headers["access-control-allow-origin"] == "https://example.org"
        assert "X-Request-ID" in refused.headers["access-control-expose-headers"]
        other = await client.options("/encode", headers=preflight | {"Origin": "https://example.com"})
        assert other.status_code == 400
        assert "access-control-allow-origin" not in other.headers
    async with serve() as client:
        answer = await client.get("/sample", headers={"Origin": "https://example.org"})
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert (await client.options("/encode", headers=preflight)).status_code == 405


async def test_every_answer_has_an_id_and_its_timing(client: httpx.AsyncClient) -> None:
    answer = await post_image(client, "/reconstruct", JPEG, **{"X-Request-ID": "my-id"})
    assert answer.headers["x-request-id"] == "my-id"
    timing = answer.headers["server-timing"]
    names = [part.split(";")[0].strip() for part in timing.split(",")]
    assert names == ["read", "decode", "queue", "inference", "encode", "total"]
