"""/sample on a real (tiny) model: what is drawn, by address and by body."""

from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from app.model.latents import standard_draws
from app.model.prior import Prior
from tests.app.api.requests import AS_JSON, check_problem, floats
from tests.app.conftest import Serve, state_behind
from tests.images import array_of
from tests.tiny_model import HEIGHT, LATENT_DIM, WIDTH


async def test_sample_gives_one_new_image_by_default(client: httpx.AsyncClient) -> None:
    answer = await client.post("/sample")
    assert answer.status_code == 200
    assert answer.headers["x-model"] == "tiny-vae/1"
    again = await client.post("/sample", json={"seed": int(answer.headers["x-seed"])})
    assert again.content == answer.content
    assert array_of(answer.content).shape == (HEIGHT, WIDTH, 3)


async def test_sample_as_json_repeats_and_decodes(client: httpx.AsyncClient) -> None:
    body = {"count": 3, "seed": 11, "temperature": 0.7}
    one, again = [(await client.post("/sample", json=body, headers=AS_JSON)).json() for _ in range(2)]
    assert one == again
    assert list(one) == ["model", "seed", "latents", "images"]
    assert one["seed"] == 11
    decoded = await client.post("/decode", json=one, headers=AS_JSON)
    assert decoded.json()["images"] == one["images"]
    walked = await client.post("/interpolate", json=one)
    assert walked.status_code == 200


async def test_sample_by_address_equals_by_body(client: httpx.AsyncClient) -> None:
    by_body = await client.post(
        "/sample?size=48", json={"count": 2, "seed": 3, "temperature": 0.5, "prior": "standard"}
    )
    by_address = await client.get("/sample?size=48&count=2&seed=3&temperature=0.5&prior=standard")
    assert by_address.status_code == 200
    assert by_address.content == by_body.content


async def test_each_prior_gives_its_own_draws(client: httpx.AsyncClient) -> None:
    async def latents(**body: Any) -> NDArray[np.float32]:
        answer = await client.post("/sample", json={"count": 4, "seed": 1} | body, headers=AS_JSON)
        return floats(answer.json()["latents"])

    prior: Prior = state_behind(client).vae.prior
    assert np.array_equal(await latents(), prior.draw(4, 1, 1.0))
    assert np.array_equal(await latents(prior="fitted", temperature=0.5), prior.draw(4, 1, 0.5))
    assert np.array_equal(await latents(prior="standard"), standard_draws(4, LATENT_DIM, 1, 1.0))
    assert (await latents(prior="standard", temperature=0) == 0).all()


async def test_only_a_seeded_sample_by_address_may_be_kept(client: httpx.AsyncClient, serve: Serve) -> None:
    assert (await client.get("/sample?seed=3")).headers["cache-control"] == "public, max-age=3600"
    assert (await client.get("/sample")).headers["cache-control"] == "no-store"
    assert "cache-control" not in (await client.post("/sample", json={"seed": 3})).headers
    async with serve(api_keys="key") as guarded:
        answer = await guarded.get("/sample?seed=3", headers={"X-API-Key": "key"})
        assert answer.headers["cache-control"] == "private, max-age=3600"


async def test_head_answers_as_get_without_the_body(client: httpx.AsyncClient) -> None:
    answer = await client.head("/sample?seed=3")
    assert answer.status_code == 200
    assert answer.headers["x-seed"] == "3"


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("count=0", "query.count"),
        ("count=65", "query.count"),
        ("count=three", "query.count"),
        ("seed=-1", "query.seed"),
        ("seed=9007199254740992", "query.seed"),
        ("temperature=nan", "query.temperature"),
        ("temperature=2.01", "query.temperature"),
        ("prior=flat", "query.prior"),
        ("size=15", "query.size"),
        ("size=abc", "query.size"),
        ("format=bmp", "query.format"),
    ],
)
async def test_query_names_the_place(client: httpx.AsyncClient, query: str, place: str) -> None:
    problem = check_problem(await client.get(f"/sample?{query}"), 422)
    assert [error["place"] for error in problem["errors"]] == [place]


async def test_sample_body_is_checked(client: httpx.AsyncClient) -> None:
    problem = check_problem(await client.post("/sample", json={"count": "3", "seed": -1, "x": 1}), 422)
    assert [error["place"] for error in problem["errors"]] == ["count", "seed", "x"]
    check_problem(await client.post("/sample", content=b"x", headers={"Content-Type": "text/plain"}), 415)
    check_problem(
        await client.post("/sample", content=b"{", headers={"Content-Type": "application/json"}), 400
    )


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_options_of_a_sample_count_wherever_they_stand(client: httpx.AsyncClient, method: str) -> None:
    expected = await client.post("/sample", json={"count": 2, "seed": 3, "temperature": 0.5})
    answer = await client.request(method, "/sample?count=2&seed=3&temperature=0.5")
    assert answer.content == expected.content
    assert answer.headers["x-seed"] == "3"


async def test_query_and_body_of_a_sample_are_taken_together(client: httpx.AsyncClient) -> None:
    expected = await client.post("/sample", json={"count": 2, "seed": 3})
    for body in ({"count": 2}, {"count": 2, "seed": 3}, {"count": 2, "seed": None}):
        assert (await client.post("/sample?seed=3", json=body)).content == expected.content
    problem = check_problem(await client.post("/sample?seed=3&count=2", json={"count": 2, "seed": 4}), 422)
    assert [error["place"] for error in problem["errors"]] == ["query.seed"]


@pytest.mark.parametrize(
    ("method", "address", "place", "meant"),
    [
        ("GET", "/sample?sed=3", "query.sed", "`seed`"),
        ("POST", "/sample?sed=3", "query.sed", "`seed`"),
        ("POST", "/sample?n=3", "query.n", "`count`"),
        ("POST", "/decode?seed=3", "query.seed", "`size`"),
        ("POST", "/decode?fromat=png", "query.fromat", "`format`"),
        ("POST", "/encode?size=64", "query.size", "`sample`"),
        ("POST", "/reconstruct?sise=64", "query.sise", "`size`"),
        ("POST", "/interpolate?frames=3", "query.frames", "`steps`"),
        ("POST", "/interpolate?size=48&size=64", "query.size", "once"),
        ("POST", "/decode?format=png&format=json", "query.format", "once"),
    ],
)
async def test_a_name_that_an_endpoint_does_not_know_is_refused(
    client: httpx.AsyncClient, method: str, address: str, place: str, meant: str
) -> None:
    problem = check_problem(await client.request(method, address), 422)
    assert [error["place"] for error in problem["errors"]] == [place]
    assert meant in problem["errors"][0]["message"]


@pytest.mark.parametrize(
    "path", ["/", "/model", "/health/live", "/health/ready", "/metrics", "/openapi.json"]
)
async def test_what_is_no_inference_ignores_its_query(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(f"{path}?utm_source=x")).status_code == 200
