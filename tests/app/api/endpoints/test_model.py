"""The five endpoints on a real (tiny) model: the whole contract, every body, every format, every status."""

import asyncio
import base64
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.images.arrays import ImageArray
from app.images.decode import read_image, read_sized_image
from app.inference.batcher import Batcher
from app.inference.vae import Vae
from app.model.latents import posterior_draws, standard_draws
from app.model.prior import Prior
from tests.app.conftest import Serve, state_behind
from tests.images import announced_png, array_of, file_of, opened, photograph
from tests.tiny_model import HEIGHT, LATENT_DIM, WIDTH, refined_by_tiny_model, write_tiny_model

JPEG = file_of(photograph(), "JPEG", quality=90)
PNG = file_of(photograph(50, 80, seed=3))
LATENTS = standard_draws(3, LATENT_DIM, seed=5).tolist()
AS_JSON = {"Accept": "application/json"}


def form(*files: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("image", ("car.jpg", file)) for file in files]


async def post_image(client: httpx.AsyncClient, path: str, file: bytes, **headers: str) -> httpx.Response:
    return await client.post(path, content=file, headers={"Content-Type": "image/jpeg"} | headers)


def floats(values: Any) -> NDArray[np.float32]:
    return np.asarray(values, dtype=np.float32)


def from_data_url(url: str) -> ImageArray:
    head, content = url.split(",")
    assert head == "data:image/png;base64"
    return array_of(base64.b64decode(content))


def check_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["type"]
    assert problem["title"]
    assert problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert "total;dur=" in answer.headers["server-timing"]
    assert ("errors" in problem) == (status == 422)
    return problem


# encode


async def test_encode_gives_the_posterior_of_an_image(client: httpx.AsyncClient) -> None:
    answer = await post_image(client, "/encode", JPEG)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    content = answer.json()
    assert list(content) == ["model", "latents", "std", "likeness"]
    assert content["model"] == "tiny-vae/1"
    vae = state_behind(client).vae
    posterior = await vae.encode(read_image(JPEG, WIDTH, HEIGHT, 10**6)[np.newaxis])
    assert np.array_equal(floats(content["latents"]), posterior.mean)
    assert np.array_equal(floats(content["std"]), posterior.std)


async def test_every_way_to_send_an_image_gives_the_same(client: httpx.AsyncClient) -> None:
    answers = [
        await client.post("/encode", files=form(JPEG)),
        await post_image(client, "/encode", JPEG),
        await client.post("/encode", content=JPEG, headers={"Content-Type": "application/octet-stream"}),
        await client.post("/encode", content=JPEG, headers={"Content-Type": "image/whatever"}),
    ]
    assert [answer.status_code for answer in answers] == [200] * 4
    assert len({answer.text for answer in answers}) == 1


async def test_several_images_keep_their_order_and_independence(client: httpx.AsyncClient) -> None:
    one = (await client.post("/encode", files=form(JPEG))).json()["latents"]
    other = (await client.post("/encode", files=form(PNG))).json()["latents"]
    both = (await client.post("/encode", files=form(PNG, JPEG, PNG))).json()["latents"]
    np.testing.assert_allclose(both, other + one + other, rtol=1e-4, atol=1e-5)


async def test_encode_can_draw(client: httpx.AsyncClient) -> None:
    async def drawn(query: str) -> Any:
        return (await client.post(f"/encode?{query}", files=form(JPEG))).json()

    mean, one, again, other = [
        await drawn(query) for query in ("", "sample=true&seed=4", "sample=true&seed=4", "sample=true&seed=5")
    ]
    assert one == again
    assert one["latents"] != other["latents"]
    assert one["latents"] != mean["latents"]
    assert one["std"] == mean["std"]
    assert (await drawn("sample=true"))["latents"] != (await drawn("sample=true"))["latents"]
    assert await drawn("seed=4") == mean


async def test_refined_latents_are_nearer_to_the_image(serve: Serve, tmp_path: Path) -> None:
    async with serve(model_dir=write_tiny_model(tmp_path, refiner=True)) as client:

        async def encoded(query: str) -> Any:
            return (await client.post(f"/encode?{query}", files=form(JPEG, PNG))).json()

        own, refined = await encoded("refine=false"), await encoded("refine=true")
        images = np.stack([read_image(file, WIDTH, HEIGHT, 10**6) for file in (JPEG, PNG)])
        expected = refined_by_tiny_model(images, floats(own["latents"]))
        np.testing.assert_allclose(floats(refined["latents"]), expected, atol=1e-5)
        assert refined["std"] == own["std"]
        assert await encoded("") == own
        draws = posterior_draws(floats(refined["latents"]), floats(own["std"]), 4)
        drawn = await encoded("refine=true&sample=true&seed=4")
        np.testing.assert_allclose(floats(drawn["latents"]), draws, atol=1e-6)
        rebuilt = await client.post("/reconstruct?refine=true", files=form(JPEG, PNG), headers=AS_JSON)
        assert rebuilt.json()["latents"] == refined["latents"]
        assert "refine;dur=" in rebuilt.headers["server-timing"]
        decoded = await client.post("/decode", json=refined, headers=AS_JSON)
        assert decoded.json()["images"] == rebuilt.json()["images"]


@pytest.mark.parametrize("path", ["/encode", "/reconstruct"])
@pytest.mark.parametrize(
    ("has_one", "reason"),
    [(False, "this model has no refiner"), (True, "refining is switched off in this service")],
)
async def test_refining_that_is_not_there_is_refused(
    serve: Serve, tmp_path: Path, path: str, has_one: bool, reason: str
) -> None:
    async with serve(model_dir=write_tiny_model(tmp_path, refiner=has_one), refine=not has_one) as client:
        answer = await client.post(f"{path}?refine=true", files=form(JPEG))
        errors = [{"place": "query.refine", "message": f"must be false or left out: {reason}"}]
        assert check_problem(answer, 422)["errors"] == errors
        assert (await client.post(f"{path}?refine=false", files=form(JPEG))).status_code == 200
        assert (await client.get("/model")).json()["refines"] is False


async def test_refining_holds_up_no_plain_request(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_tiny_model(tmp_path, refiner=True)
    async with serve(model_dir=folder, max_items=2, refine_queue_rows=2) as client:
        batcher = state_behind(client).vae._refiner.batcher
        entered, release, inner = threading.Event(), threading.Event(), batcher._infer

        def held(pairs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
            entered.set()
            assert release.wait(timeout=30)
            return tuple(inner(pairs))

        monkeypatch.setattr(batcher, "_infer", held)

        def refined() -> asyncio.Task[httpx.Response]:
            return asyncio.create_task(client.post("/encode?refine=true", files=form(JPEG)))

        running = refined()
        assert await asyncio.to_thread(entered.wait, 30)
        waiting = [refined(), refined()]
        while batcher.queued_rows < 2:
            await asyncio.sleep(0)
        check_problem(await refined(), 429)
        metrics = (await client.get("/metrics")).text
        assert 'car_vae_queue_rows{graph="refiner"} 2.0' in metrics
        assert (await client.post("/encode", files=form(JPEG))).status_code == 200
        assert (await client.post("/reconstruct", files=form(JPEG))).status_code == 200
        assert (await client.get("/health/ready")).status_code == 200
        release.set()
        answers = await asyncio.gather(running, *waiting)
        assert len({answer.text for answer in answers}) == 1
        assert answers[0].status_code == 200
        metrics = (await client.get("/metrics")).text
        assert 'car_vae_batch_rows_sum{graph="refiner"} 3.0' in metrics


async def test_encode_answers_nothing_but_json(client: httpx.AsyncClient) -> None:
    check_problem(await post_image(client, "/encode", JPEG, Accept="image/png"), 406)
    check_problem(await post_image(client, "/encode?format=png", JPEG), 406)
    assert (await post_image(client, "/encode?format=json", JPEG, Accept="image/png")).status_code == 200


# decode


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


# reconstruct


async def test_reconstruct_measures_what_it_shows(client: httpx.AsyncClient) -> None:
    answer = await client.post("/reconstruct", files=form(JPEG, PNG), headers=AS_JSON)
    content = answer.json()
    assert set(content) == {"model", "images", "latents", "std", "likeness", "psnr", "ssim"}
    assert {len(values) for name, values in content.items() if name not in ("model", "likeness")} == {2}
    fitted = np.stack([read_image(file, WIDTH, HEIGHT, 10**6) for file in (JPEG, PNG)]).astype(float)
    again = np.stack([from_data_url(url) for url in content["images"]]).astype(float)
    errors = ((fitted - again) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(content["psnr"], 10 * np.log10(255**2 / errors), rtol=1e-4)
    assert all(-1 <= value <= 1 for value in content["ssim"])
    encoded = (await client.post("/encode", files=form(JPEG, PNG))).json()
    assert content["latents"] == encoded["latents"]
    assert content["std"] == encoded["std"]


async def test_reconstruct_lays_several_images_out_in_a_grid(client: httpx.AsyncClient) -> None:
    answer = await client.post("/reconstruct", files=form(JPEG, PNG))
    assert answer.headers["x-model"] == "tiny-vae/1"
    assert array_of(answer.content).shape == (HEIGHT, 2 * WIDTH, 3)


# sample


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


# answers as bodies


async def json_answers(client: httpx.AsyncClient) -> dict[str, Any]:
    """Every JSON answer with latents, three of them each."""
    two = {"latents": LATENTS[:2]}
    return {
        "encode": (await client.post("/encode", files=form(JPEG, PNG, JPEG))).json(),
        "reconstruct": (await client.post("/reconstruct?format=json", files=form(JPEG, PNG, JPEG))).json(),
        "sample": (await client.post("/sample?format=json&count=3")).json(),
        "interpolate": (await client.post("/interpolate?format=json&steps=3", json=two)).json(),
    }


async def test_every_json_answer_is_a_body_as_it_stands(client: httpx.AsyncClient) -> None:
    for answer in (await json_answers(client)).values():
        latents = {"latents": answer["latents"]}
        for path in ("/decode", "/interpolate", "/interpolate?steps=4", "/interpolate?method=spherical"):
            by_answer = await client.post(path, json=answer)
            assert by_answer.status_code == 200, by_answer.text
            assert by_answer.content == (await client.post(path, json=latents)).content


async def test_an_answer_of_two_frames_gives_its_frames_again(client: httpx.AsyncClient) -> None:
    address = "/interpolate?format=json"
    two = (await client.post(address + "&steps=2", json={"latents": LATENTS[:2]})).json()
    assert (await client.post(address, json=two)).json() == two
    assert len((await client.post(address + "&steps=9", json=two)).json()["images"]) == 9
    assert len((await client.post(address, json=two | {"steps": 9})).json()["images"]) == 9


async def test_an_answer_of_more_frames_than_waypoints_is_told_so(client: httpx.AsyncClient) -> None:
    long = await client.post("/interpolate?format=json&steps=17", json={"latents": LATENTS})
    problem = check_problem(await client.post("/interpolate", json=long.json()), 422)
    assert problem["errors"] == [{"place": "waypoints", "message": "must be 2 to 16, not 17"}]


# interpolate


async def test_options_of_a_path_count_wherever_they_stand(client: httpx.AsyncClient) -> None:
    latents = {"latents": LATENTS[:2]}
    expected = (await client.post("/interpolate", json=latents | {"steps": 4, "method": "spherical"})).content
    pictures = {"steps": "4", "method": "spherical"}
    for query in ("steps=4&method=spherical", "steps=4", "method=spherical", ""):
        named = {name: value for name, value in pictures.items() if name not in query}
        body = latents | ({"steps": 4} if "steps" in named else {})
        body |= {"method": "spherical"} if "method" in named else {}
        assert (await client.post(f"/interpolate?{query}", json=body)).content == expected
        by_form = await client.post(f"/interpolate?{query}", files=form(JPEG, PNG), data=named)
        assert array_of(by_form.content).shape == (HEIGHT, 4 * WIDTH, 3)


@pytest.mark.parametrize(
    "query", ["lambdas=0,0.5,1", "lambdas=0&lambdas=0.5&lambdas=1", "lambdas=0,0.5&lambdas=1"]
)
async def test_lambdas_in_a_query_are_repeated_or_comma_separated(
    client: httpx.AsyncClient, query: str
) -> None:
    for body in ({}, {"lambdas": [0, 0.5, 1]}):
        answer = await client.post(
            f"/interpolate?{query}", json=body | {"latents": LATENTS[:2]}, headers=AS_JSON
        )
        assert answer.json()["lambdas"] == [0, 0.5, 1]


@pytest.mark.parametrize(
    ("query", "body", "place"),
    [
        ("steps=4", {"steps": 5}, "query.steps"),
        ("lambdas=0,1", {"lambdas": [0, 0.5]}, "query.lambdas"),
        ("method=linear", {"method": "spherical"}, "query.method"),
        ("steps=4", {"lambdas": [0.5]}, "lambdas"),
        ("lambdas=0.5", {"steps": 4}, "query.lambdas"),
        ("lambdas=nan", {}, "query.lambdas[0]"),
        ("steps=1", {}, "query.steps"),
    ],
)
async def test_options_that_do_not_go_together_are_named(
    client: httpx.AsyncClient, query: str, body: Any, place: str
) -> None:
    answer = await client.post(f"/interpolate?{query}", json=body | {"latents": LATENTS[:2]})
    assert check_problem(answer, 422)["errors"][0]["place"] == place


async def test_ends_of_the_path_equal_decode(client: httpx.AsyncClient) -> None:
    ends = [LATENTS[0], LATENTS[2]]
    for method in ("linear", "spherical"):
        body = {"latents": LATENTS, "steps": 7, "method": method}
        path = (await client.post("/interpolate", json=body, headers=AS_JSON)).json()
        assert list(path) == ["model", "lambdas", "latents", "images"]
        decoded = (await client.post("/decode", json={"latents": ends}, headers=AS_JSON)).json()
        assert [path["images"][0], path["images"][-1]] == decoded["images"]
        assert np.array_equal(floats([path["latents"][0], path["latents"][-1]]), floats(ends))
        np.testing.assert_allclose(path["lambdas"], np.linspace(0, 1, 7))
        assert len(path["images"]) == len(path["latents"]) == 7


async def test_eight_frames_in_one_row_by_default(client: httpx.AsyncClient) -> None:
    answer = await client.post("/interpolate", json={"latents": LATENTS[:2]})
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-model"] == "tiny-vae/1"
    assert array_of(answer.content).shape == (HEIGHT, 8 * WIDTH, 3)


async def test_lambdas_are_places_on_a_straight_line(client: httpx.AsyncClient) -> None:
    body = {"latents": LATENTS[:2], "lambdas": [1, 0, 0.25]}
    path = (await client.post("/interpolate", json=body, headers=AS_JSON)).json()
    begin, end = floats(LATENTS[:2])
    np.testing.assert_allclose(path["latents"], [end, begin, 0.75 * begin + 0.25 * end], rtol=1e-5)
    assert path["lambdas"] == [1, 0, 0.25]


async def test_a_path_between_images_goes_along_their_means(client: httpx.AsyncClient) -> None:
    encoded = (await client.post("/encode", files=form(JPEG, PNG))).json()
    by_latents = await client.post("/interpolate", json=encoded | {"steps": 5, "method": "spherical"})
    by_pictures = await client.post(
        "/interpolate", files=form(JPEG, PNG), data={"steps": "5", "method": "spherical"}
    )
    assert by_pictures.status_code == 200
    assert by_pictures.content == by_latents.content


@pytest.mark.parametrize("lambdas", [65 * ["0.5"], ",".join(65 * ["0.5"])])
async def test_more_lambdas_than_frames_in_a_form_are_refused(
    client: httpx.AsyncClient, lambdas: Any
) -> None:
    answer = await client.post("/interpolate", files=form(JPEG, PNG), data={"lambdas": lambdas})
    assert check_problem(answer, 422)["errors"][0]["place"] == "lambdas"
    fits = await client.post("/interpolate.json", files=form(JPEG, PNG), data={"lambdas": lambdas[:-4]})
    assert set(fits.json()["lambdas"]) == {0.5}


@pytest.mark.parametrize("steps", [3, 3.0, "3.0"])
async def test_an_integer_may_have_a_fraction_of_zero(client: httpx.AsyncClient, steps: Any) -> None:
    form_of_steps = {"files": form(JPEG, PNG), "data": {"steps": str(steps)}}
    in_json = {"json": {"latents": LATENTS[:2], "steps": float(steps), "seed": 2.0}}
    for request in (form_of_steps, in_json):
        path = (await client.post(f"/interpolate.json?steps={steps}", **request)).json()
        assert path["lambdas"] == [0, 0.5, 1]


@pytest.mark.parametrize("lambdas", ["0,0.5,1", ["0", "0.5", "1"], "0, 0.5 ,1"])
async def test_lambdas_in_a_form_are_repeated_or_comma_separated(
    client: httpx.AsyncClient, lambdas: Any
) -> None:
    answer = await client.post(
        "/interpolate", files=form(JPEG, PNG), data={"lambdas": lambdas}, headers=AS_JSON
    )
    assert answer.json()["lambdas"] == [0, 0.5, 1]


async def test_an_animation_has_every_frame_of_the_path(client: httpx.AsyncClient) -> None:
    answer = await client.post("/interpolate?format=gif&size=48", json={"latents": LATENTS, "steps": 9})
    assert answer.headers["content-type"] == "image/gif"
    with Image.open(io.BytesIO(answer.content)) as animation:
        assert animation.size == (48, 32)
        assert getattr(animation, "n_frames", 1) == 9
        assert animation.info["loop"] == 0
    by_accept = await client.post(
        "/interpolate?size=48", json={"latents": LATENTS, "steps": 9}, headers={"Accept": "image/gif"}
    )
    assert by_accept.content == answer.content
    check_problem(await client.post("/decode?format=gif", json={"latents": LATENTS}), 406)


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"latents": LATENTS[:1]}, "waypoints"),
        ({"latents": LATENTS * 6}, "waypoints"),
        ({"latents": LATENTS, "steps": 1}, "steps"),
        ({"latents": LATENTS, "steps": 65}, "steps"),
        ({"latents": LATENTS, "lambdas": [0.5]}, "lambdas"),
        ({"latents": LATENTS[:2], "lambdas": [0.5], "steps": 3}, "lambdas"),
        ({"latents": LATENTS[:2], "lambdas": [2]}, "lambdas[0]"),
        ({"latents": LATENTS[:2], "method": "cubic"}, "method"),
        ({"latents": LATENTS[:2], "frames": 3}, "frames"),
    ],
)
async def test_path_names_the_place(client: httpx.AsyncClient, body: Any, place: str) -> None:
    problem = check_problem(await client.post("/interpolate", json=body), 422)
    assert problem["errors"][0]["place"] == place


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"steps": "x"}, "steps"),
        ({"steps": ["3", "4"]}, "steps"),
        ({"lambdas": "0,,1"}, "lambdas[1]"),
        ({"model": "x"}, "model"),
    ],
)
async def test_path_form_names_the_place(client: httpx.AsyncClient, fields: Any, place: str) -> None:
    answer = await client.post("/interpolate", files=form(JPEG, PNG), data=fields)
    assert check_problem(answer, 422)["errors"][0]["place"] == place


async def test_one_raw_image_is_no_path(client: httpx.AsyncClient) -> None:
    check_problem(await post_image(client, "/interpolate", JPEG), 422)


# pictures that cannot be used


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


# paths, methods, keys


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


# a model that is busy, broken or gone


class Gate:
    """A Vae on the tiny model whose decoder waits until it is released; then it answers grey, or fails."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        queue_rows: int = 2,
        queue_timeout: float = 10.0,
        batch_rows: int = 1,
    ) -> None:
        self.service = state_behind(client)
        self.entered, self.release = threading.Event(), threading.Event()
        self.failing = False
        self.batches: list[int] = []
        decoder = Batcher(
            "decoder",
            self.run,
            max_batch_rows=batch_rows,
            max_queue_rows=queue_rows,
            queue_timeout=queue_timeout,
            observer=self.service.metrics,
        )
        self.real: Vae = self.service.vae
        self.decoder = decoder
        self.service.vae = Vae(
            self.real.manifest, self.real.prior, self.real._encoder, decoder, self.real.graphs
        )
        decoder.start()

    def run(self, rows: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        self.batches.append(len(rows))
        self.entered.set()
        assert self.release.wait(timeout=30)
        if self.failing:
            raise RuntimeError("CUDA error at /opt/secret")
        return (np.full((len(rows), HEIGHT, WIDTH, 3), 128, np.uint8),)

    async def wait_until_entered(self) -> None:
        await asyncio.to_thread(self.entered.wait, 30)

    async def end(self) -> None:
        self.release.set()
        await self.decoder.drain()
        self.service.vae = self.real


async def test_a_full_queue_refuses_at_the_door(client: httpx.AsyncClient) -> None:
    gate = Gate(client, queue_rows=2)
    body = {"latents": LATENTS[:1]}
    running = asyncio.ensure_future(client.post("/decode", json=body))
    await gate.wait_until_entered()
    waiting = [asyncio.ensure_future(client.post("/decode", json=body)) for _ in range(2)]
    while gate.decoder.queued_rows < 2:
        await asyncio.sleep(0)
    refused = await client.post("/decode", json=body)
    check_problem(refused, 429)
    assert int(refused.headers["retry-after"]) >= 1
    gate.release.set()
    assert [(await answer).status_code for answer in (running, *waiting)] == [200] * 3
    await gate.end()


async def test_a_request_that_waits_too_long_is_told_so(client: httpx.AsyncClient) -> None:
    gate = Gate(client, queue_timeout=0.02)
    body = {"latents": LATENTS[:1]}
    running = asyncio.ensure_future(client.post("/decode", json=body))
    await gate.wait_until_entered()
    check_problem(await client.post("/decode", json=body), 504)
    gate.release.set()
    assert (await running).status_code == 200
    await gate.end()


async def test_a_failed_batch_answers_only_its_own_requests(client: httpx.AsyncClient) -> None:
    gate = Gate(client)
    gate.failing = True
    gate.release.set()
    problem = check_problem(await client.post("/decode", json={"latents": LATENTS[:1]}), 500)
    assert "CUDA" not in str(problem)
    gate.failing = False
    assert (await client.post("/decode", json={"latents": LATENTS[:1]})).status_code == 200
    await gate.end()


@pytest.mark.parametrize("path", ["/encode", "/decode", "/reconstruct", "/sample", "/interpolate"])
async def test_a_draining_service_takes_no_new_work(client: httpx.AsyncClient, path: str) -> None:
    state_behind(client).draining = True
    answer = await client.post(path, files=form(JPEG))
    check_problem(answer, 503)
    assert int(answer.headers["retry-after"]) > 0


async def test_rows_of_a_lost_client_are_skipped(client: httpx.AsyncClient) -> None:
    gate = Gate(client)
    running = asyncio.ensure_future(client.post("/decode", json={"latents": LATENTS[:1]}))
    await gate.wait_until_entered()
    sent: list[Any] = []
    await lost_request(client, sent)
    assert sent == []
    gate.release.set()
    assert (await running).status_code == 200
    await gate.end()
    assert gate.batches == [1]
    metrics = (await client.get("/metrics")).text
    assert 'car_vae_requests_total{endpoint="/sample",status="499"} 1.0' in metrics


async def lost_request(client: httpx.AsyncClient, sent: list[Any]) -> None:
    """A POST /sample whose client closes the connection once it has sent the body."""
    messages: Iterator[dict[str, Any]] = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, Any]:
        return next(messages, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/sample",
        "query_string": b"",
        "headers": [],
        "root_path": "",
    }
    transport = client._transport
    assert isinstance(transport, httpx.ASGITransport)
    await transport.app(scope, receive, send)


async def test_images_that_wait_for_threads_are_bounded(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, release = threading.Event(), threading.Event()

    def held(data: bytes, width: int, height: int, max_pixels: int) -> tuple[ImageArray, tuple[int, int]]:
        entered.set()
        assert release.wait(timeout=30)
        return read_sized_image(data, width, height, max_pixels)

    monkeypatch.setattr("app.api.inference_request.read_sized_image", held)
    async with serve(max_items=64, queue_rows=64) as client:
        busy = asyncio.ensure_future(client.post("/encode", files=form(*[JPEG] * 64)))
        await asyncio.to_thread(entered.wait, 30)
        refused = await client.post("/encode", files=form(JPEG))
        check_problem(refused, 429)
        assert (await client.get("/health/live")).status_code == 200
        release.set()
        assert (await busy).status_code == 200
