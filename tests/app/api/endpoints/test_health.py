"""Health, description and metrics."""

import asyncio
from pathlib import Path

import httpx
import pytest

from app.api.service_schemas import ModelAnswer
from app.errors import ModelFolderError
from app.main import create_app
from app.settings import Settings
from tests.app.api.gate import Gate
from tests.app.api.requests import check_problem
from tests.app.conftest import Serve, client_of, state_behind
from tests.tiny_model import HEIGHT, LATENT_DIM, WIDTH, add_int8, write_tiny_model


async def test_the_model_is_described_as_its_manifest_has_it(serve: Serve) -> None:
    async with serve(max_items=7) as client:
        answer = await client.get("/model")
    content = answer.json()
    parameters = content.pop("parameters")
    assert parameters > 1000
    directions = content.pop("directions")
    assert len(directions) == 8
    for direction, known in zip(directions, state_behind(client).vae.directions, strict=True):
        unnamed = dict.fromkeys(("name", "low", "high"))
        assert direction == {"vector": pytest.approx(known.vector.tolist()), "std": known.std, **unnamed}
        assert len(direction["vector"]) == LATENT_DIM
    assert content.pop("decoders") == []
    assert content.pop("map") is None
    assert content == {
        "id": "tiny-vae/1",
        "name": "tiny-vae",
        "version": 1,
        "image_size": {"width": WIDTH, "height": HEIGHT},
        "latent_dim": LATENT_DIM,
        "provider": "CPUExecutionProvider",
        "precision": "fp32",
        "encoder_precision": "fp32",
        "self_check": None,
        "refines": False,
        "codes": False,
        "reads_codes_of": [],
        "max_items": 7,
        "metrics": {"psnr": 10.0},
    }


async def test_int8_is_served_where_it_is_asked_for(serve: Serve, tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "1")
    other = write_tiny_model(tmp_path / "2", seed=1)
    latents = {"latents": [[0.5] * LATENT_DIM]}
    answers = []
    add_int8(folder, *((other / f"{half}.onnx").read_bytes() for half in ("encoder", "decoder")))
    for model, precision in ((folder, "int8"), (other, "fp32"), (folder, "fp32")):
        async with serve(model_dir=model, precision=precision) as client:
            content = (await client.get("/model")).json()
            assert content["precision"] == content["encoder_precision"] == precision
            assert content["self_check"] is None
            answers.append((await client.post("/decode", json=latents)).content)
    assert answers[0] == answers[1] != answers[2]


async def test_a_self_check_decides_unless_the_setting_does(serve: Serve, tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path, refiner=True)
    add_int8(folder, *((folder / f"{half}.onnx").read_bytes() for half in ("encoder", "decoder")))
    async with serve(model_dir=folder) as client:
        content = (await client.get("/model")).json()
        metrics = (await client.get("/metrics")).text
    check = content["self_check"]
    assert check["grey_levels"] == check["worst_grey_levels"] == 0
    assert min(check["fp32_seconds"], check["int8_seconds"]) > 0
    faster = check["int8_seconds"] <= 0.9 * check["fp32_seconds"]
    assert content["precision"] == ("int8" if faster else "fp32")
    assert content["encoder_precision"] == "fp32"
    assert content["refines"] is True
    for graph, precision in (("encoder", "fp32"), ("decoder", content["precision"])):
        assert f'car_vae_precision{{graph="{graph}",precision="{precision}"}} 1.0' in metrics


async def test_int8_is_refused_where_there_is_none(serve: Serve) -> None:
    with pytest.raises(ModelFolderError, match="no int8 graphs; set CAR_VAE_PRECISION=fp32"):
        async with serve(precision="int8"):
            pass


async def test_model_without_a_prior(serve: Serve, tmp_path: Path) -> None:
    async with serve(model_dir=write_tiny_model(tmp_path / "1", prior=False)) as client:
        assert (await client.get("/model")).json()["directions"] == []


async def test_model_answer_has_the_described_fields(client: httpx.AsyncClient) -> None:
    assert set((await client.get("/model")).json()) == set(ModelAnswer.model_fields)


async def test_a_served_model_is_alive_and_ready(client: httpx.AsyncClient) -> None:
    for path in ("/health/live", "/health/ready"):
        answer = await client.get(path)
        assert answer.status_code == 200
        assert answer.json() == {"status": "ok"}
        assert answer.headers["cache-control"] == "no-store"
        assert (await client.head(path)).status_code == 200


async def test_not_ready_before_the_start(settings: Settings) -> None:
    async with client_of(create_app(settings)) as client:
        assert (await client.get("/health/live")).status_code == 200
        assert "starting" in check_problem(await client.get("/health/ready"), 503)["detail"]
        check_problem(await client.get("/model"), 503)
        check_problem(await client.post("/sample"), 503)


async def test_not_ready_while_draining(client: httpx.AsyncClient) -> None:
    state_behind(client).draining = True
    assert (await client.get("/health/live")).status_code == 200
    answer = await client.get("/health/ready")
    assert "shutting down" in check_problem(answer, 503)["detail"]
    assert int(answer.headers["retry-after"]) > 0


async def test_failed_model_is_probed_until_it_answers(client: httpx.AsyncClient) -> None:
    gate = Gate(client)
    gate.release.set()
    gate.failing = True
    check_problem(await client.post("/sample"), 500)
    check_problem(await client.get("/health/ready"), 503)
    runs = len(gate.batches)
    check_problem(await client.get("/health/ready"), 503)
    assert len(gate.batches) == runs + 1
    gate.failing = False
    assert (await client.get("/health/ready")).status_code == 200
    runs = len(gate.batches)
    assert (await client.get("/health/ready")).status_code == 200
    assert len(gate.batches) == runs
    await gate.end()


async def test_not_ready_when_the_worker_has_gone(client: httpx.AsyncClient) -> None:
    await state_behind(client).vae.drain()
    check_problem(await client.get("/health/ready"), 503)


async def test_metrics_tell_of_requests_and_runs(client: httpx.AsyncClient) -> None:
    await client.get("/sample?count=3")
    await client.get("/no/such/path")
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    lines = answer.text.splitlines()
    for line in (
        'car_vae_requests_total{endpoint="/sample",status="200"} 1.0',
        'car_vae_requests_total{endpoint="other",status="404"} 1.0',
        'car_vae_batch_rows_sum{graph="decoder"} 3.0',
        'car_vae_stage_seconds_count{stage="inference"} 1.0',
        'car_vae_info{model="tiny-vae/1",provider="CPUExecutionProvider"} 1.0',
    ):
        assert line in lines


async def test_rows_that_wait_are_told_at_the_time_of_asking(client: httpx.AsyncClient) -> None:
    gate = Gate(client, queue_rows=2)
    body = {"latents": [[0.0] * LATENT_DIM]}
    running = asyncio.ensure_future(client.post("/decode", json=body))
    await gate.wait_until_entered()
    waiting = asyncio.ensure_future(client.post("/decode", json=body))
    while gate.decoder.queued_rows < 1:
        await asyncio.sleep(0)
    assert 'car_vae_queue_rows{graph="decoder"} 1.0' in (await client.get("/metrics")).text
    gate.release.set()
    await asyncio.gather(running, waiting)
    assert 'car_vae_queue_rows{graph="decoder"} 0.0' in (await client.get("/metrics")).text
    await gate.end()


async def test_what_is_served_may_be_kept_and_is_asked_for_again(
    client: httpx.AsyncClient, serve: Serve
) -> None:
    first = await client.get("/model")
    assert first.headers["cache-control"] == "no-cache"
    again = await client.get("/model", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert [again.headers[name] for name in ("etag", "cache-control", "vary")] == [
        first.headers[name] for name in ("etag", "cache-control", "vary")
    ]
    async with serve(max_items=9) as other:
        changed = await other.get("/model", headers={"If-None-Match": first.headers["etag"]})
        assert (changed.status_code, changed.json()["max_items"]) == (200, 9)
