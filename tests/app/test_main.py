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
from tests.app.api.gate import Gate
from tests.app.api.requests import LATENTS, check_problem
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


async def test_an_unexpected_fault_is_a_problem_that_allowed_origins_may_read(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bytes:
        raise RuntimeError("/opt/secret")

    monkeypatch.setattr("app.api.responses.grid", broken)
    async with serve(cors_origins="https://example.org") as client:
        answer = await client.get("/sample", headers={"Origin": "https://example.org"})
    problem = check_problem(answer, 500)
    assert "secret" not in str(problem)
    assert answer.headers["access-control-allow-origin"] == "https://example.org"


async def test_below_a_root_path_everything_is_as_it_is_without(serve: Serve) -> None:
    async with serve(api_keys="key") as client:
        app = client._transport.app  # type: ignore[attr-defined]
        transport = httpx.ASGITransport(app, root_path="/cars")
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as below:
            check_problem(await below.post("/cars/encode"), 401)
            check_problem(await below.get("/cars/sample"), 401)
            check_problem(await below.get("/sample"), 401)
            drawn = await below.get("/cars/sample", headers={"X-API-Key": "key"})
            assert (drawn.status_code, drawn.headers["content-type"]) == (200, "image/png")
            assert (await below.get("/cars/openapi.json")).json()["servers"][0] == {"url": "/cars"}
            assert 'endpoint="/sample"' in (await below.get("/cars/metrics")).text
