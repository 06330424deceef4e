"""Latents as npy files: bodies and answers."""

import io
from typing import Any

import httpx
import numpy as np
import pytest

from tests.app.api.requests import AS_JSON, JPEG, LATENTS, PNG, check_problem, form
from tests.images import array_of
from tests.tiny_model import LATENT_DIM

NPY = {"Content-Type": "application/x-npy"}
TWO = {"latents": LATENTS[:2]}


def npy_of(values: Any, dtype: str = "<f4") -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(values, dtype))
    return file.getvalue()


def array_in(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-npy"
    assert answer.headers["x-model"] == "tiny-vae/1"
    return np.load(io.BytesIO(answer.content), allow_pickle=False)


async def test_latents_as_npy_are_those_in_json_bit_by_bit(client: httpx.AsyncClient) -> None:
    async def both(method: str, path: str, query: str = "", **body: Any) -> None:
        as_json = (await client.request(method, f"{path}.json?{query}", **body)).json()["latents"]
        answer = await client.request(method, f"{path}.npy?{query}", **body)
        assert array_in(answer).tobytes() == np.asarray(as_json, "<f4").tobytes()
        accepted = await client.request(
            method, f"{path}?{query}", headers={"Accept": "application/x-npy"}, **body
        )
        assert accepted.content == answer.content

    await both("POST", "/encode", files=form(JPEG, PNG, JPEG))
    await both("POST", "/encode", "sample=true&seed=4", files=form(JPEG))
    await both("POST", "/sample", json={"count": 3, "seed": 4})
    await both("GET", "/sample", "count=3&seed=4")
    await both("POST", "/interpolate", json=TWO | {"steps": 5})
    await both("GET", "/interpolate", "seed=3&seed=4&steps=5")
    drawn = await client.get("/sample.npy?count=3&seed=4")
    assert drawn.headers["x-seed"] == "4"
    assert "inference" not in drawn.headers["server-timing"]


@pytest.mark.parametrize("path", ["/decode", "/interpolate?steps=5"])
async def test_npy_is_a_body_as_json_is(client: httpx.AsyncClient, path: str) -> None:
    expected = await client.post(path, json={"latents": LATENTS})
    for order in ("C", "F"):
        file = npy_of(np.array(LATENTS, "<f4", order=order))
        answer = await client.post(path, content=file, headers=NPY)
        assert (answer.status_code, answer.content) == (200, expected.content)
    by_type = await client.post(path, content=file, headers={"Content-Type": "Application/X-NPY; v=1"})
    assert by_type.content == expected.content


async def test_latents_go_out_and_in_again(client: httpx.AsyncClient) -> None:
    encoded = await client.post("/encode.npy", files=form(JPEG, PNG))
    decoded = await client.post("/decode.png", content=encoded.content, headers=NPY)
    rebuilt = await client.post("/reconstruct.png", files=form(JPEG, PNG))
    assert np.array_equal(array_of(decoded.content), array_of(rebuilt.content))
    ends = await client.post("/interpolate.npy?steps=2", content=encoded.content, headers=NPY)
    assert ends.content == encoded.content


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "not an npy file"),
        (npy_of(LATENTS)[:-1], 400, "95 bytes of numbers; its header says 96"),
        (npy_of(LATENTS) + b"\0", 400, "97 bytes"),
        (npy_of(LATENTS, "<f8"), 422, "little-endian float32"),
        (npy_of(LATENTS, "O"), 422, "little-endian float32"),
        (npy_of([[0.0] * (LATENT_DIM + 1)]), 422, "(N, 8)"),
        (npy_of(LATENTS[0]), 422, "(N, 8)"),
        (npy_of([[0.0] * LATENT_DIM] * 65), 413, "65 latents; at most 64"),
        (npy_of([[0.0] * LATENT_DIM, [0.0, np.nan] * 4]), 422, "latents[1][1]"),
        (npy_of([[0.0] * LATENT_DIM, [-1e7] * LATENT_DIM]), 422, "latents[1][0]"),
    ],
)
@pytest.mark.parametrize("path", ["/decode", "/interpolate"])
async def test_npy_that_cannot_be_used_is_told_why(
    client: httpx.AsyncClient, path: str, body: bytes, status: int, said: str
) -> None:
    problem = check_problem(await client.post(path, content=body, headers=NPY), status)
    assert said in problem["detail"]


async def test_npy_is_read_where_latents_are_taken_and_answered_where_they_are_given(
    client: httpx.AsyncClient,
) -> None:
    for path in ("/encode", "/reconstruct", "/sample"):
        check_problem(await client.post(path, content=npy_of(LATENTS), headers=NPY), 415)
    for path in ("/decode?format=npy", "/reconstruct?format=npy"):
        check_problem(await client.post(path, json=TWO), 406)
    answer = await client.post("/interpolate?steps=3", content=npy_of(LATENTS), headers=NPY | AS_JSON)
    assert len(answer.json()["images"]) == 3


async def test_a_path_of_one_latent_is_refused_in_npy_too(client: httpx.AsyncClient) -> None:
    problem = check_problem(await client.post("/interpolate", content=npy_of(LATENTS[:1]), headers=NPY), 422)
    assert problem["errors"][0]["place"] == "waypoints"
