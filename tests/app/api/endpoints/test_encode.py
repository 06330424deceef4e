"""/encode and /reconstruct on a real (tiny) model: what they answer, refined and not."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from app.images.decode import read_image
from app.model.latents import posterior_draws
from tests.app.api.requests import (
    AS_JSON,
    JPEG,
    PNG,
    check_problem,
    floats,
    form,
    from_data_url,
    post_image,
)
from tests.app.conftest import Serve, state_behind
from tests.images import array_of
from tests.tiny_model import HEIGHT, WIDTH, refined_by_tiny_model, write_tiny_model


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
