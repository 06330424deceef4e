"""/decode on a real (tiny) model: images of latents in every format, and latents that are none."""

from typing import Any

import httpx
import numpy as np
import pytest

from tests.app.api.requests import JPEG, LATENTS, check_problem, floats, form, from_data_url
from tests.app.conftest import Serve, state_behind
from tests.images import array_of, opened
from tests.tiny_model import HEIGHT, LATENT_DIM, WIDTH


async def test_what_encode_answers_is_a_body_for_decode_and_equals_reconstruct(
    client: httpx.AsyncClient,
) -> None:
    encoded = await client.post("/encode", files=form(JPEG))
    decoded = await client.post("/decode", json=encoded.json())
    rebuilt = await client.post("/reconstruct", files=form(JPEG))
    assert decoded.status_code == rebuilt.status_code == 200
    assert np.array_equal(array_of(decoded.content), array_of(rebuilt.content))


async def test_one_latent_gives_its_image(client: httpx.AsyncClient) -> None:
    answer = await client.post("/decode", json={"latents": LATENTS[:1], "model": "tiny-vae/1"})
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-model"] == "tiny-vae/1"
    assert "Accept" in answer.headers["vary"]
    expected = await state_behind(client).vae.decode(floats(LATENTS[:1]))
    assert np.array_equal(array_of(answer.content), expected[0])


async def test_several_latents_give_a_grid(client: httpx.AsyncClient) -> None:
    sheet = array_of((await client.post("/decode", json={"latents": LATENTS})).content)
    assert sheet.shape == (2 * HEIGHT, 2 * WIDTH, 3)
    urls = (await client.post("/decode?format=json", json={"latents": LATENTS})).json()["images"]
    first, second, third = map(from_data_url, urls)
    assert np.array_equal(sheet[:HEIGHT], np.hstack([first, second]))
    assert np.array_equal(sheet[HEIGHT:, :WIDTH], third)
    assert (sheet[HEIGHT:, WIDTH:] == 255).all()


@pytest.mark.parametrize(("name", "kind"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
async def test_an_image_is_answered_in_the_format_that_is_asked_for(
    client: httpx.AsyncClient, name: str, kind: str
) -> None:
    body = {"latents": LATENTS[:1]}
    asked = await client.post(f"/decode?format={name}&size=384", json=body, headers={"Accept": "text/html"})
    accepted = await client.post("/decode?size=384", json=body, headers={"Accept": f"image/{name}"})
    assert asked.content == accepted.content
    assert asked.headers["content-type"] == f"image/{name}"
    picture = opened(asked.content)
    assert picture.format == kind
    exact = array_of((await client.post("/decode?size=384", json=body)).content)
    assert np.abs(array_of(asked.content).astype(int) - exact).mean() < 12


@pytest.mark.parametrize(
    ("size", "shape"), [(16, (11, 16)), (24, (16, 24)), (48, (32, 48)), (2048, (1365, 2048))]
)
async def test_size_sets_the_longer_edge(
    client: httpx.AsyncClient, size: int, shape: tuple[int, int]
) -> None:
    answer = await client.post(f"/decode?size={size}", json={"latents": LATENTS[:1]})
    assert array_of(answer.content).shape[:2] == shape


async def test_size_holds_for_each_image_of_a_grid(client: httpx.AsyncClient) -> None:
    body = {"latents": LATENTS[:2]}
    assert array_of((await client.post("/decode?size=48", json=body)).content).shape[:2] == (32, 96)
    urls = (await client.post("/decode?size=48&format=json", json=body)).json()["images"]
    assert [from_data_url(url).shape[:2] for url in urls] == [(32, 48)] * 2


async def test_too_large_an_answer_is_refused(serve: Serve) -> None:
    async with serve(max_output_pixels=2 * 48 * 32) as client:
        assert (await client.post("/decode?size=48", json={"latents": LATENTS[:2]})).status_code == 200
        refused = await client.post("/decode?size=48", json={"latents": LATENTS})
        problem = check_problem(refused, 422)
        assert problem["errors"][0]["place"] == "query.size"
        assert "3072" in problem["detail"]
        check_problem(await client.get("/sample?size=48&count=3"), 422)
        check_problem(await client.post("/reconstruct?size=48", files=form(JPEG, JPEG, JPEG)), 422)
        check_problem(await client.post("/interpolate?size=48", json={"latents": LATENTS}), 422)


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"latents": [[0.0] * (LATENT_DIM - 1)]}, "latents[0]"),
        ({"latents": [[0.0] * LATENT_DIM, [True] * LATENT_DIM]}, "latents[1][0]"),
        ({"latents": [[1e39] * LATENT_DIM]}, "latents[0][0]"),
        ({"latents": []}, "latents"),
        ({}, "latents"),
        ({"latents": LATENTS, "steps": 3}, "steps"),
        ({"latents": LATENTS, "model": 1}, "model"),
    ],
)
async def test_decode_names_the_place(client: httpx.AsyncClient, body: Any, place: str) -> None:
    problem = check_problem(await client.post("/decode", json=body), 422)
    assert problem["errors"][0]["place"] == place


@pytest.mark.parametrize("path", ["/decode", "/interpolate"])
async def test_malformed_json_is_refused(client: httpx.AsyncClient, path: str) -> None:
    for body in (b"", b"{", b'{"latents": [[nan]]}', b"[" * 5000):
        answer = await client.post(path, content=body, headers={"Content-Type": "application/json"})
        assert "line 1" in check_problem(answer, 400)["detail"]


@pytest.mark.parametrize("path", ["/decode", "/interpolate"])
async def test_latents_of_another_model_are_refused(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.post(path, json={"latents": LATENTS, "model": "tiny-vae/2"})
    assert "tiny-vae/1" in check_problem(answer, 409)["detail"]


async def test_extreme_latents_are_decoded(client: httpx.AsyncClient) -> None:
    answer = await client.post("/decode", json={"latents": [[1e6] * LATENT_DIM, [-1e6] * LATENT_DIM]})
    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["/decode", "/interpolate"])
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "3e38", "-1000001"])
async def test_numbers_that_no_decoder_takes_are_named(
    client: httpx.AsyncClient, path: str, number: str
) -> None:
    rows = ["[" + ", ".join(["0"] * LATENT_DIM) + "]", f"[0, {number}, " + ", ".join(["0"] * 6) + "]"]
    text = '{"latents": [' + ", ".join(rows) + "]}"
    answer = await client.post(path, content=text, headers={"Content-Type": "application/json"})
    assert check_problem(answer, 422)["errors"][0]["place"] == "latents[1][1]"


@pytest.mark.parametrize("path", ["/decode", "/interpolate"])
async def test_a_latent_alone_is_told_to_stand_in_a_list(client: httpx.AsyncClient, path: str) -> None:
    problem = check_problem(await client.post(path, json={"latents": [0.5] * 256}), 422)
    assert "a latent stands in a list of latents" in problem["detail"]
    problem = check_problem(await client.post(path, json={"z": LATENTS}), 422)
    assert "did you mean `latents`?" in problem["detail"]
