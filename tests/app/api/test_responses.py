"""What answers are made of: images in every format, moving ones, data URLs; and how they are kept."""

import base64
import io
import re
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from app.images.encode import frame_durations
from app.inference.batcher import Batcher
from app.server.compression import MIN_BYTES
from tests.app.api.requests import JPEG, LATENTS, PNG, check_problem, form
from tests.app.conftest import Serve
from tests.images import array_of, difference, opened
from tests.tiny_model import HEIGHT, WIDTH, write_tiny_model

BROWSER = {"Accept": "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"}
TWO = {"latents": LATENTS[:2]}


# stills


async def test_an_image_as_avif(client: httpx.AsyncClient) -> None:
    exact = array_of((await client.get("/sample.png?seed=3&size=384")).content)
    answer = await client.get("/sample.avif?seed=3&size=384")
    assert answer.headers["content-type"] == "image/avif"
    assert opened(answer.content).format == "AVIF"
    assert difference(array_of(answer.content), exact) < 6
    for path, body in (
        ("/decode.avif", {"json": TWO}),
        ("/reconstruct.avif", {"files": form(JPEG, PNG)}),
        ("/interpolate.avif?steps=2", {"json": TWO}),
    ):
        assert opened((await client.post(path, **body)).content).size == (2 * WIDTH, HEIGHT)


async def test_browsers_that_say_so_get_avif_and_nobody_else(client: httpx.AsyncClient) -> None:
    for accept, kind in ((BROWSER["Accept"], "avif"), ("*/*", "png"), ("image/*", "png")):
        answer = await client.get("/sample?seed=3", headers={"Accept": accept})
        assert answer.headers["content-type"] == f"image/{kind}"


# data URLs


@pytest.mark.parametrize("kind", ["png", "webp", "jpeg", "avif"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/decode", {"json": {"latents": LATENTS}}),
        ("/reconstruct", {"files": form(JPEG, PNG, JPEG)}),
        ("/sample", {"json": {"count": 3, "seed": 4}}),
        ("/interpolate", {"json": TWO | {"steps": 3}}),
    ],
)
async def test_images_in_json_are_what_is_asked_for(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], kind: str
) -> None:
    exact = (await client.post(f"{path}.json?size=384", **body)).json()
    answer = (await client.post(f"{path}.json?size=384&images={kind}", **body)).json()
    assert len(answer["images"]) == 3
    for url, png in zip(answer.pop("images"), exact.pop("images"), strict=True):
        head, content = url.split(",")
        assert head == f"data:image/{kind};base64"
        file = base64.b64decode(content)
        assert opened(file).format == kind.upper()
        exact_image = array_of(base64.b64decode(png.split(",")[1]))
        assert difference(array_of(file), exact_image) < (1e-9 if kind == "png" else 12)
    assert answer == exact


async def test_images_can_be_left_out(client: httpx.AsyncClient) -> None:
    for path, body in (
        ("/decode", {"json": TWO}),
        ("/reconstruct", {"files": form(JPEG, PNG)}),
        ("/sample", {"json": {"count": 2, "seed": 4}}),
        ("/interpolate", {"json": TWO}),
    ):
        whole = (await client.post(f"{path}.json", **body)).json()
        answer = await client.post(f"{path}.json?images=none", **body)
        assert answer.json() == {name: value for name, value in whole.items() if name != "images"}
        if path in ("/sample", "/interpolate"):
            assert "inference" not in answer.headers["server-timing"]


async def test_an_answer_with_other_images_is_a_body_as_it_stands(client: httpx.AsyncClient) -> None:
    for images in ("webp", "none"):
        answer = await client.get(f"/sample.json?count=2&seed=4&images={images}")
        assert (await client.post("/interpolate", json=answer.json())).status_code == 200


@pytest.mark.parametrize("kind", ["gif", "json", "None", ""])
async def test_other_images_are_refused(client: httpx.AsyncClient, kind: str) -> None:
    problem = check_problem(await client.get(f"/sample.json?images={kind}"), 422)
    assert problem["errors"][0]["place"] == "query.images"
    assert '"webp"' in problem["errors"][0]["message"]


# animations


@pytest.mark.parametrize("kind", ["webp", "avif", "gif"])
async def test_a_path_moves(client: httpx.AsyncClient, kind: str) -> None:
    body = {"latents": LATENTS, "steps": 9}
    still = (await client.post("/interpolate.json?size=120", json=body)).json()["images"]
    answer = await client.post(f"/interpolate.{kind}?size=120&animate=true", json=body)
    assert answer.headers["content-type"] == f"image/{kind}"
    with Image.open(io.BytesIO(answer.content)) as animation:
        assert animation.format == kind.upper()
        assert animation.size == (120, 80)
        assert getattr(animation, "n_frames", 1) == 9
        for number, duration in enumerate(frame_durations(9)):
            animation.seek(number)
            frame = np.asarray(animation.convert("RGB"))
            assert animation.info["duration"] == duration
            exact = [array_of(base64.b64decode(url.split(",")[1])) for url in still]
            assert np.argmin([difference(frame, image) for image in exact]) == number
    asked = await client.post(f"/interpolate?size=120&animate=true&format={kind}", json=body)
    accepted = await client.post(
        "/interpolate?size=120&animate=true", json=body, headers={"Accept": f"image/{kind}"}
    )
    assert asked.content == accepted.content == answer.content


@pytest.mark.parametrize(
    ("accept", "kind"),
    [("*/*", "webp"), ("image/*", "webp"), (BROWSER["Accept"], "avif"), ("image/gif", "gif")],
)
async def test_who_asks_for_movement_alone_gets_what_moves(
    client: httpx.AsyncClient, accept: str, kind: str
) -> None:
    answer = await client.post("/interpolate?animate=true&steps=3", json=TWO, headers={"Accept": accept})
    assert answer.headers["content-type"] == f"image/{kind}"
    assert getattr(opened(answer.content), "n_frames", 1) == 3
    assert answer.headers["vary"] == "Accept"


async def test_what_cannot_move_is_refused(client: httpx.AsyncClient) -> None:
    for address, place in (
        ("/interpolate.png?animate=true", "path"),
        ("/interpolate.json?animate=true", "path"),
        ("/interpolate?format=jpeg&animate=true", "query.format"),
    ):
        problem = check_problem(await client.post(address, json=TWO), 422)
        assert problem["errors"][0]["place"] == place
        assert "webp, avif, gif" in problem["errors"][0]["message"]
    for accept in ("image/png", "application/json"):
        answer = await client.post("/interpolate?animate=true", json=TWO, headers={"Accept": accept})
        assert "image/webp" in check_problem(answer, 406)["detail"]
    problem = check_problem(await client.post("/decode.webp?animate=true", json=TWO), 422)
    assert problem["errors"][0]["place"] == "query.animate"


async def test_frames_of_an_animation_are_no_row(serve: Serve) -> None:
    async with serve(max_output_pixels=10**9) as client:
        address = "/interpolate?format=webp&size=300&steps=64"
        check_problem(await client.post(address, json=TWO), 422)
        answer = await client.post(address + "&animate=true", json=TWO)
        assert opened(answer.content).size == (300, 200)


# by address


async def test_a_path_by_address_goes_along_the_cars_of_its_seeds(client: httpx.AsyncClient) -> None:
    cars = [(await client.get(f"/sample.json?seed={seed}")).json()["latents"][0] for seed in (3, 7, 3)]
    by_body = await client.post(
        "/interpolate?size=48", json={"latents": cars, "steps": 5, "method": "spherical"}
    )
    for seeds in ("seed=3&seed=7&seed=3", "seed=3,7,3"):
        answer = await client.get(f"/interpolate?{seeds}&steps=5&method=spherical&size=48")
        assert answer.content == by_body.content
    halfway = await client.get("/interpolate.json?seed=3&seed=7&lambdas=0,0.5")
    assert halfway.json()["lambdas"] == [0, 0.5]
    assert halfway.json()["latents"][0] == cars[0]


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("", "query.seed"),
        ("steps=3", "query.seed"),
        ("seed=3", "query.seed"),
        ("seed=" + ",".join(map(str, range(17))), "query.seed"),
        ("seed=3&seed=x", "query.seed[1]"),
        ("seed=3&seed=-1", "query.seed[1]"),
        ("seed=3&seed=1.5", "query.seed[1]"),
        ("seed=3&seed=4&lambdas=0.5&steps=3", "query.lambdas"),
        ("seed=3&seed=4&seed=5&lambdas=0.5", "query.lambdas"),
        ("seed=3&seed=4&count=3", "query.count"),
        ("seed=3&seed=4&size=2048&steps=64", "query.size"),
    ],
)
async def test_a_path_by_address_names_the_place(client: httpx.AsyncClient, query: str, place: str) -> None:
    problem = check_problem(await client.get(f"/interpolate?{query}"), 422)
    assert [error["place"] for error in problem["errors"]] == [place]


# kept answers

KEPT = [
    "/sample.png?seed=3",
    "/sample.avif?seed=3&count=4",
    "/sample?seed=3",
    "/sample.json?seed=3&count=64",
    "/sample.npy?seed=3",
    "/interpolate.webp?seed=3&seed=4&animate=true",
    "/interpolate?seed=3&seed=4&format=json",
]


@pytest.mark.parametrize("address", KEPT)
async def test_who_has_an_answer_is_told_so_before_any_work(client: httpx.AsyncClient, address: str) -> None:
    first = await client.get(address)
    tag = first.headers["etag"]
    assert "tiny-vae/1" in tag
    assert tag.startswith('W/"') == (first.headers["content-type"] == "application/json")
    for known in (tag, f'"other", {tag}', "*"):
        for method in ("GET", "HEAD"):
            again = await client.request(method, address, headers={"If-None-Match": known})
            assert again.status_code == 304
            assert again.content == b""
            for name in ("etag", "cache-control", "vary"):
                assert again.headers.get(name) == first.headers.get(name)
            assert re.findall(r"(\w+);dur", again.headers["server-timing"]) == ["total"]
    changed = await client.get(address, headers={"If-None-Match": '"other"'})
    assert (changed.status_code, changed.content) == (200, first.content)


async def test_even_a_full_queue_tells_who_has_an_answer(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = (await client.get("/sample.png?seed=3")).headers["etag"]

    async def fail(*_: Any, **__: Any) -> Any:
        raise AssertionError("the model was asked")

    monkeypatch.setattr(Batcher, "submit", fail)
    again = await client.get("/sample.png?seed=3", headers={"If-None-Match": tag})
    assert again.status_code == 304


async def test_a_request_that_is_wrong_is_told_so_whatever_it_knows(client: httpx.AsyncClient) -> None:
    known = {"If-None-Match": "*"}
    check_problem(await client.get("/sample.png?seed=3&count=65", headers=known), 422)
    check_problem(await client.get("/sample.png?seed=3&size=2048&count=64", headers=known), 422)
    assert (await client.get("/sample.png", headers=known)).status_code == 200
    assert (await client.post("/sample.png", json={"seed": 3}, headers=known)).status_code == 200


async def test_a_prior_that_is_not_there_is_told_whatever_the_request_knows(
    serve: Serve, tmp_path: Path
) -> None:
    async with serve(model_dir=write_tiny_model(tmp_path / "1", prior=False)) as client:
        answer = await client.get("/sample.png?seed=3&prior=fitted", headers={"If-None-Match": "*"})
        assert "no fitted prior" in check_problem(answer, 422)["detail"]
        again = await client.get("/sample.png?seed=3&prior=standard", headers={"If-None-Match": "*"})
        assert again.status_code == 304


async def tags(client: httpx.AsyncClient, *addresses: str) -> list[str]:
    return [(await client.get(address)).headers["etag"] for address in addresses]


async def test_what_decides_the_answer_decides_its_tag(client: httpx.AsyncClient) -> None:
    different = [
        "/sample.png?seed=3",
        "/sample.png?seed=4",
        "/sample.png?seed=3&size=48",
        "/sample.png?seed=3&count=2",
        "/sample.png?seed=3&temperature=0.5",
        "/sample.png?seed=3&prior=standard",
        "/sample.webp?seed=3",
        "/sample.json?seed=3",
        "/sample.json?seed=3&images=webp",
        "/interpolate.png?seed=3&seed=4",
        "/interpolate.png?seed=4&seed=3",
        "/interpolate.png?seed=3&seed=4&steps=9",
        "/interpolate.png?seed=3&seed=4&method=spherical",
        "/interpolate.png?seed=3&seed=4&lambdas=0.5",
        "/interpolate.webp?seed=3&seed=4",
        "/interpolate.webp?seed=3&seed=4&animate=true",
    ]
    found = await tags(client, *different)
    assert len(set(found)) == len(different)
    assert await tags(client, *different) == found
    one, other = await tags(
        client, "/sample.png?seed=3&count=1&temperature=1.0", "/sample.png?temperature=1&seed=3"
    )
    assert one == other == found[0]
    by_accept = await client.get("/sample?seed=3", headers={"Accept": "image/webp"})
    assert by_accept.headers["etag"] != (await client.get("/sample?seed=3")).headers["etag"]


async def test_another_model_and_other_weights_have_other_tags(serve: Serve, tmp_path: Any) -> None:
    found = []
    for version, seed in ((1, 0), (1, 1), (2, 0)):
        folder = write_tiny_model(tmp_path / f"{version}-{seed}", version=version, seed=seed)
        async with serve(model_dir=folder) as client:
            found += await tags(client, "/sample.png?seed=3")
    assert len(set(found)) == 3


async def test_how_long_and_where_answers_are_kept(client: httpx.AsyncClient, serve: Serve) -> None:
    for address in KEPT:
        assert (await client.get(address)).headers["cache-control"] == "public, max-age=3600"
    for address in ("/sample", "/sample.webp?count=2", "/sample.json"):
        answer = await client.get(address)
        assert answer.headers["cache-control"] == "no-store"
        assert "etag" not in answer.headers
    async with serve(api_keys="key") as guarded:
        key = {"X-API-Key": "key"}
        answer = await guarded.get(KEPT[0], headers=key)
        assert answer.headers["cache-control"] == "private, max-age=3600"
        check_problem(await guarded.get(KEPT[0], headers={"If-None-Match": answer.headers["etag"]}), 401)
        again = await guarded.get(KEPT[0], headers=key | {"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.headers["cache-control"]) == (304, "private, max-age=3600")


@pytest.mark.parametrize(
    ("address", "accept", "vary"),
    [
        ("/sample?seed=3", "*/*", "Accept"),
        ("/sample?seed=3", "application/json", "Accept, Accept-Encoding"),
        ("/sample.png?seed=3", "*/*", None),
        ("/sample?seed=3&format=png", "*/*", None),
        ("/sample.json?seed=3", "*/*", "Accept-Encoding"),
        ("/sample.npy?seed=3", "*/*", None),
    ],
)
async def test_what_else_decides_an_answer_is_said(
    client: httpx.AsyncClient, address: str, accept: str, vary: str | None
) -> None:
    assert (await client.get(address, headers={"Accept": accept})).headers.get("vary") == vary


async def test_json_is_packed_where_that_is_worth_it(client: httpx.AsyncClient) -> None:
    small = await client.get("/sample.json?seed=3")
    assert int(small.headers["content-length"]) < MIN_BYTES
    assert "content-encoding" not in small.headers
    plain = await client.get("/sample.json?seed=3&count=64", headers={"Accept-Encoding": "identity"})
    large = await client.get("/sample.json?seed=3&count=64")
    assert "content-encoding" not in plain.headers
    assert large.headers["content-encoding"] == "gzip"
    assert int(large.headers["content-length"]) < 0.8 * int(plain.headers["content-length"])
    assert large.json() == plain.json()
    assert large.headers["etag"] == plain.headers["etag"]
    document = await client.get("/openapi.json")
    assert int(document.headers["content-length"]) < len(document.content) / 8
