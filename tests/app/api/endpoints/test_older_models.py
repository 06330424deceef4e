"""Codes of older models: a link shows the same car when another model is served."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from app.codes.wire import from_text, seal, tag_of, to_text
from tests.app.api.endpoints.test_car_pictures import told_by
from tests.app.api.endpoints.test_compress import TALL, WIDE, array_of_url, compressed, uploads
from tests.app.api.requests import check_problem
from tests.app.conftest import Serve
from tests.tiny_model import write_tiny_model


@dataclass
class Told:
    """Codes of model 1, and what its own service answers of them."""

    codes: list[str]
    answers: dict[str, httpx.Response]


PATHS = (
    "/c/{0}.png",
    "/c/{1}.webp?size=99",
    "/c/{1}.jpg?letterbox=true",
    "/decode.png?code={0}&code={1}",
    "/decode.json?code={1}",
    "/interpolate.png?code={0}&code={1}&steps=5",
    "/interpolate.json?code={0}&code={1}&steps=4&method=spherical",
    "/interpolate.gif?code={0},{1},{0}&steps=6",
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The models 1 and 2 with codes, 3 without."""
    folder = tmp_path_factory.mktemp("models")
    return [
        write_tiny_model(folder / str(version), seed=version, version=version, codes=version < 3)
        for version in (1, 2, 3)
    ]


TOLD: list[Told] = []
"""What one service has told, as long as this module runs."""


@pytest.fixture
async def told(serve: Serve, folders: list[Path]) -> Told:
    if not TOLD:
        async with serve(model_dir=folders[0]) as client:
            items = await compressed(client, "?bytes=120", WIDE, TALL)
            codes = [item["codes"][0] for item in items]
            answers = {path: await client.get(path.format(*codes)) for path in PATHS}
        TOLD.append(Told(codes, answers))
    return TOLD[0]


@pytest.fixture
async def newer(serve: Serve, folders: list[Path]) -> AsyncIterator[httpx.AsyncClient]:
    """The service when model 2 has taken the place of model 1."""
    async with serve(model_dir=folders[1], older_models=str(folders[0])) as client:
        yield client


async def test_every_address_shows_the_same_car_as_before(newer: httpx.AsyncClient, told: Told) -> None:
    for path, before in told.answers.items():
        assert before.status_code == 200, before.text
        now = await newer.get(path.format(*told.codes))
        assert now.content == before.content, path
        for name in ("x-model", "cache-control", "content-type"):
            assert now.headers.get(name) == before.headers.get(name)
        known = await newer.get(path.format(*told.codes), headers={"If-None-Match": now.headers["etag"]})
        assert known.status_code == 304


async def test_codes_in_bodies_are_read_too(newer: httpx.AsyncClient, told: Told) -> None:
    for model in ({}, {"model": "tiny-vae/1"}):
        answer = await newer.post("/decode.json", json={"codes": told.codes, **model})
        assert answer.json()["model"] == "tiny-vae/1"
        pictures = [array_of_url(url) for url in answer.json()["images"]]
        again = await newer.get(f"/decode.json?code={told.codes[0]}&code={told.codes[1]}")
        assert [array_of_url(url).tolist() for url in again.json()["images"]] == [
            picture.tolist() for picture in pictures
        ]
    path = await newer.post(
        "/interpolate.json", json={"codes": told.codes, "steps": 4, "method": "spherical"}
    )
    assert path.json() == told.answers[PATHS[6]].json()
    check_problem(await newer.post("/decode", json={"codes": told.codes, "model": "tiny-vae/2"}), 409)
    # What is no code is of the served model as ever.
    latents = path.json()["latents"][:1]
    check_problem(await newer.post("/decode", json={"latents": latents, "model": "tiny-vae/1"}), 409)


async def test_codes_of_a_request_are_of_one_model(newer: httpx.AsyncClient, told: Told) -> None:
    (item,) = await compressed_by(newer)
    own = item["codes"][0]
    for codes, place in (([told.codes[0], own], "codes[1]"), ([own, *told.codes], "codes[1]")):
        for path in ("/decode", "/interpolate"):
            problem = check_problem(await newer.post(path, json={"codes": codes}), 409)
            assert problem["detail"].startswith(f"{place}: ")
            query = "&".join(f"code={code}" for code in codes)
            problem = check_problem(await newer.get(f"{path}?{query}"), 409)
            assert problem["detail"].startswith(f"query.{place.replace('codes', 'code')}: ")


async def compressed_by(client: httpx.AsyncClient) -> list[dict[str, list[str]]]:
    answer = await client.post("/compress?bytes=100", files=uploads(WIDE))
    assert answer.json()["model"] == "tiny-vae/2"
    items: list[dict[str, list[str]]] = answer.json()["items"]
    return items


async def test_codes_of_an_older_model_become_those_of_the_served_one(
    newer: httpx.AsyncClient, told: Told
) -> None:
    """Of their pictures, as if these had been sent as files."""
    rewritten = await newer.post("/compress?bytes=60,120&images=png", json={"codes": told.codes})
    pictures = [(await newer.get(f"/c/{code}.png")).content for code in told.codes]
    expected = await newer.post("/compress?bytes=60,120&images=png", files=uploads(*pictures))
    assert rewritten.status_code == 200
    assert rewritten.json() == expected.json()
    assert rewritten.json()["model"] == "tiny-vae/2"
    for code in rewritten.json()["items"][1]["codes"]:
        assert (await newer.get(f"/c/{code}.png")).headers["x-model"] == "tiny-vae/2"


async def test_a_code_of_yet_another_model_is_told_which_are_read(
    newer: httpx.AsyncClient, told: Told
) -> None:
    other = to_text(seal(tag_of(7), from_text(told.codes[0])[1:-1]))
    for path in (f"/c/{other}.png", f"/decode?code={other}", f"/interpolate?code={other}&code={other}"):
        problem = check_problem(await newer.get(path), 409)
        assert "of version 7; this service reads those of tiny-vae/2, tiny-vae/1" in problem["detail"]
    assert (await newer.get(f"/c/{other}")).status_code == 409


async def test_damaged_codes_stay_damaged(newer: httpx.AsyncClient, told: Told) -> None:
    raw = from_text(told.codes[0])
    unreadable = to_text(seal(raw[0], raw[1:-6]))
    for code in (told.codes[0][:-1], unreadable):
        check_problem(await newer.get(f"/c/{code}.png"), 400)
        check_problem(await newer.post("/decode", json={"codes": [told.codes[1], code]}), 400)
        assert (await newer.get(f"/c/{code}")).status_code == 400


async def test_the_page_names_the_model_of_the_code(newer: httpx.AsyncClient, told: Told) -> None:
    page = await newer.get(f"/c/{told.codes[0]}")
    assert "tiny-vae/1" in told_by(page)["og:description"]
    assert (await newer.get(told_by(page)["og:image"])).headers["x-model"] == "tiny-vae/1"


async def test_the_service_says_which_it_reads(newer: httpx.AsyncClient, told: Told) -> None:
    assert (await newer.get("/model")).json()["reads_codes_of"] == ["tiny-vae/2", "tiny-vae/1"]
    gauge = 'car_vae_older_model_open{model="tiny-vae/1"}'
    assert f"{gauge} 0.0" in (await newer.get("/metrics")).text
    await newer.get(f"/c/{told.codes[0]}.png")
    metrics = (await newer.get("/metrics")).text
    assert f"{gauge} 1.0" in metrics
    assert 'car_vae_batch_rows_count{graph="older-decoder"} 1.0' in metrics
    assert 'car_vae_queue_rows{graph="older-decoder"} 0.0' in metrics


async def test_a_model_without_codes_may_serve_beside(serve: Serve, folders: list[Path], told: Told) -> None:
    async with serve(model_dir=folders[2], older_models=f"{folders[1]}, {folders[0]}") as client:
        assert (await client.get("/model")).json()["reads_codes_of"] == ["tiny-vae/2", "tiny-vae/1"]
        picture = await client.get(PATHS[0].format(*told.codes))
        assert picture.content == told.answers[PATHS[0]].content
        check_problem(await client.post("/compress", files=uploads(WIDE)), 404)
