"""The life of an app: start, refusal to start, drain."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import httpx
import onnxruntime
import pytest

from app.errors import ModelFolderError, ProviderUnavailable
from app.main import create_app
from app.settings import Settings
from tests.app.api.test_endpoints import LATENTS, Gate, check_problem
from tests.app.conftest import Serve, client_of, state_behind


async def test_apps_share_nothing(serve: Serve) -> None:
    async with serve() as one, serve() as other:
        await one.get("/sample")
        assert 'endpoint="/sample"' in (await one.get("/metrics")).text
        assert 'endpoint="/sample"' not in (await other.get("/metrics")).text


async def test_a_missing_model_refuses_to_start(settings: Settings, tmp_path: Path) -> None:
    app = create_app(settings.model_copy(update={"model_dir": tmp_path / "none"}))
    with pytest.raises(ModelFolderError):
        async with app.router.lifespan_context(app):
            pass


async def test_without_a_gpu_cuda_refuses_to_start(settings: Settings) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("CUDA may be there")
    app = create_app(settings.model_copy(update={"device": "cuda"}))
    with pytest.raises(ProviderUnavailable):
        async with app.router.lifespan_context(app):
            pass


async def test_refusal_to_start_reaches_the_server_as_one_line(settings: Settings, tmp_path: Path) -> None:
    app = create_app(settings.model_copy(update={"model_dir": tmp_path / "none"}))
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "lifespan", "state": {}}, receive, send)
    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
    assert "\n" not in sent[0]["message"]
    assert "model.json" in sent[0]["message"]


async def test_accepted_requests_finish_and_new_ones_are_refused(settings: Settings) -> None:
    app = create_app(settings)
    async with client_of(app) as client:
        async with app.router.lifespan_context(app):
            gate = Gate(client)
            accepted = asyncio.ensure_future(client.post("/decode", json={"latents": LATENTS[:1]}))
            await gate.wait_until_entered()
            state_behind(client).draining = True
            check_problem(await client.post("/decode", json={"latents": LATENTS[:1]}), 503)
            gate.release.set()
            assert (await accepted).status_code == 200
            await gate.end()
        check_problem(await client.get("/health/ready"), 503)
        assert (await client.get("/health/live")).status_code == 200


async def test_sigterm_turns_readiness_false_before_the_server_stops(settings: Settings) -> None:
    told: list[bool] = []
    app = create_app(settings)
    before = signal.signal(signal.SIGTERM, lambda *_: told.append(app.state.app_state.draining))
    try:
        async with app.router.lifespan_context(app), client_of(app) as client:
            assert (await client.get("/health/ready")).status_code == 200
            signal.raise_signal(signal.SIGTERM)
            await asyncio.sleep(0)
            assert told == [True]
            check_problem(await client.get("/health/ready"), 503)
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_an_unexpected_fault_is_a_problem_without_details(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bytes:
        raise RuntimeError("/opt/secret")

    monkeypatch.setattr("app.api.responses.grid", broken)
    problem = check_problem(await client.get("/sample"), 500)
    assert "secret" not in str(problem)
