"""The real service as a process, with a model trained minutes ago and with the one that ships."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from model_training import __main__ as commands

ROOT = Path(__file__).parents[2]
START_SECONDS = 60


@contextmanager
def serving(
    model: Path | None,
    log: Path,
    *,
    command: Sequence[str] = (sys.executable, "-m", "app"),
    folder: Path = ROOT,
    **settings: str,
) -> Iterator[httpx.Client]:
    """Start the service on a free port and stop it again; it must end well.

    Args:
        model: its folder, or None for the default one.
        folder: where the command is started.
        settings: by their names without the prefix, such as `queue_rows`.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    values = {"model_dir": str(model or ""), "port": port, "device": "cpu", **settings}
    environment = {**os.environ, **{f"CAR_VAE_{name.upper()}": value for name, value in values.items()}}
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                _wait_until_ready(client, process, log)
                yield client
        finally:
            process.terminate()
            status = process.wait(timeout=30)
    assert status == 0, log.read_text()


def _wait_until_ready(client: httpx.Client, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if client.get("/health/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"the service did not become ready:\n{log.read_text()}")


@pytest.fixture(scope="session")
def trained_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny recipe on drawn cars, from the first command to the last."""
    folder = tmp_path_factory.mktemp("trained")
    run, model = str(folder / "run"), folder / "models" / "car-vae" / "7"
    for command in (
        [
            "train",
            "--recipe",
            "tiny",
            "--data",
            "synthetic",
            "--out",
            run,
            "--epochs",
            "6",
            "--device",
            "cpu",
        ],
        ["fit-prior", run, "--data", "synthetic", "--steps", "20"],
        ["export", run, "--out", str(model), "--trained-on", "drawn cars"],
    ):
        assert commands.main(command) == 0
    return model


@pytest.fixture(scope="session")
def client(trained_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of the service that runs the freshly trained model."""
    with serving(trained_model, tmp_path_factory.mktemp("log") / "service.log") as client:
        yield client
