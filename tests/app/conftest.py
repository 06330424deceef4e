"""A service on the tiny model, in the process of the test."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.images.decode import configure_pillow
from app.main import create_app
from app.settings import Settings
from tests.tiny_model import write_tiny_model

Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture(scope="session", autouse=True)
def pillow() -> None:
    """As the service has it, whichever test reads images first."""
    configure_pillow()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny-vae" / "1")


@pytest.fixture
def settings(model_folder: Path) -> Settings:
    return Settings(model_dir=model_folder, device="cpu")


def client_of(app: FastAPI) -> httpx.AsyncClient:
    """A client that talks to the app without a network."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service")


@pytest.fixture
def serve(settings: Settings) -> Serve:
    """serve(**changed_settings) starts a service."""

    @asynccontextmanager
    async def start(**changes: Any) -> AsyncIterator[httpx.AsyncClient]:
        app = create_app(Settings(**(settings.model_dump() | changes)))
        async with app.router.lifespan_context(app), client_of(app) as client:
            yield client

    return start


@pytest.fixture
async def client(serve: Serve) -> AsyncIterator[httpx.AsyncClient]:
    async with serve() as client:
        yield client


def state_behind(client: httpx.AsyncClient) -> Any:
    """The app.state.AppState that answers a client of client_of."""
    transport = client._transport
    assert isinstance(transport, httpx.ASGITransport)
    return transport.app.state.app_state  # type: ignore[attr-defined]
