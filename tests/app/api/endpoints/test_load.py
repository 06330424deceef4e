"""A model that is busy, broken or gone."""

import asyncio
import os
import signal
import threading
from pathlib import Path

import httpx
import pytest

from app.images.arrays import ImageArray
from app.images.decode import read_sized_image
from tests.app.api.gate import Gate
from tests.app.api.requests import (
    JPEG,
    LATENTS,
    check_problem,
    form,
    lost_request,
)
from tests.app.conftest import Serve, state_behind
from tests.tiny_model import write_tiny_model


async def test_a_full_queue_refuses_at_the_door(client: httpx.AsyncClient) -> None:
    gate = Gate(client, queue_rows=2)
    body = {"latents": LATENTS[:1]}
    running = asyncio.ensure_future(client.post("/decode", json=body))
    await gate.wait_until_entered()
    waiting = [asyncio.ensure_future(client.post("/decode", json=body)) for _ in range(2)]
    while gate.decoder.queued_rows < 2:
        await asyncio.sleep(0)
    assert not gate.service.is_calm()
    refused = await client.post("/decode", json=body)
    check_problem(refused, 429)
    assert int(refused.headers["retry-after"]) >= 1
    gate.release.set()
    assert [(await answer).status_code for answer in (running, *waiting)] == [200] * 3
    assert gate.service.is_calm()
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
    assert await lost_request(client, "/sample", b"") == []
    gate.release.set()
    assert (await running).status_code == 200
    await gate.end()
    assert gate.batches == [1]
    metrics = (await client.get("/metrics")).text
    assert 'car_vae_requests_total{endpoint="/sample",status="499"} 1.0' in metrics


async def test_a_client_that_sends_slowly_and_goes_is_noticed(serve: Serve, tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "tiny-vae" / "1", codes=True)
    async with serve(model_dir=folder) as client:
        assert (await client.post("/compress", files=form(JPEG))).status_code == 200
        packer = state_behind(client).codes._packer
        os.kill(packer._process.pid, signal.SIGSTOP)
        running = asyncio.ensure_future(client.post("/compress", files=form(JPEG)))
        while packer.batcher._running is None:
            await asyncio.sleep(0)
        assert await lost_request(client, "/compress", JPEG[:500], JPEG[500:900], JPEG[900:]) == []
        os.kill(packer._process.pid, signal.SIGCONT)
        assert (await running).status_code == 200
        metrics = (await client.get("/metrics")).text
    assert 'car_vae_requests_total{endpoint="/compress",status="499"} 1.0' in metrics
    assert 'car_vae_batch_rows_sum{graph="packer"} 2.0' in metrics


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
        assert not state_behind(client).is_calm()
        assert (await client.get("/health/live")).status_code == 200
        release.set()
        assert (await busy).status_code == 200
        assert state_behind(client).is_calm()
