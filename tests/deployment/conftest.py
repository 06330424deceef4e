"""Two replicas of the service on the tiny model, for what stands before them and what watches them."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import serving
from tests.tiny_model import write_tiny_model

Replicas = tuple[httpx.Client, httpx.Client]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny-vae" / "1", codes=True)


@pytest.fixture(scope="session")
def replicas(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    """A client of each."""
    logs = tmp_path_factory.mktemp("logs")
    with (
        serving(tiny_model, logs / "first") as first,
        serving(tiny_model, logs / "second") as second,
    ):
        yield first, second


def address_of(client: httpx.Client) -> str:
    """host:port of what a client talks to."""
    return client.base_url.netloc.decode()
