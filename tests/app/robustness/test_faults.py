"""What breaks inside is answered, shown and survived: the model's runs, its folder, the process."""

import asyncio
import json
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from app.inference.batcher import Batcher
from app.inference.vae import Vae
from tests.app.api.requests import LATENTS, check_problem
from tests.app.conftest import state_behind
from tests.app.test_serve import refusal
from tests.performance.client import Connection, form, picture, request
from tests.performance.service import running
from tests.tiny_model import HEIGHT, WIDTH

BODY = {"latents": LATENTS[:1]}
Run = Callable[[NDArray[Any]], tuple[NDArray[Any], ...]]


def grey(rows: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    return (np.full((len(rows), HEIGHT, WIDTH, 3), 128, np.uint8),)


class Patient:
    """The decoder of a running service replaced by one whose runs are up to the test."""

    def __init__(self, client: httpx.AsyncClient, run: Run, run_limit: float = 60.0) -> None:
        self.service = state_behind(client)
        self.real: Vae = self.service.vae
        decoder = Batcher(
            "decoder",
            run,
            max_batch_rows=4,
            max_queue_rows=8,
            queue_timeout=30,
            observer=self.service.metrics,
            run_limit=run_limit,
        )
        self.decoder = decoder
        self.service.vae = Vae(
            self.real.manifest, self.real.prior, self.real._encoder, decoder, self.real.graphs
        )
        decoder.start()

    async def end(self) -> None:
        await self.decoder.drain()
        self.service.vae = self.real


async def test_a_hanging_run_is_answered_and_unready_until_it_returns(client: httpx.AsyncClient) -> None:
    entered, release = threading.Event(), threading.Event()

    def hang(rows: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        entered.set()
        release.wait(timeout=60)
        return grey(rows)

    patient = Patient(client, hang, run_limit=0.1)
    stuck = asyncio.ensure_future(client.post("/decode", json=BODY))
    await asyncio.to_thread(entered.wait, 30)
    waiting = asyncio.ensure_future(client.post("/decode", json=BODY))
    check_problem(await stuck, 500)
    check_problem(await waiting, 503)
    problem = check_problem(await client.get("/health/ready"), 503)
    assert problem["detail"] == "the decoder has been in one run for more than 0.1 s"
    check_problem(await client.post("/decode", json=BODY), 503)
    assert (await client.get("/health/live")).status_code == 200
    release.set()
    while (await client.get("/health/ready")).status_code != 200:
        await asyncio.sleep(0.01)
    assert (await client.post("/decode", json=BODY)).status_code == 200
    await patient.end()


@pytest.mark.parametrize("error", [RuntimeError("CUDA failure 700"), MemoryError(), ValueError("x\ny")])
async def test_a_run_that_raises_is_told_without_its_cause_and_recovers(
    client: httpx.AsyncClient, error: Exception
) -> None:
    broken = True

    def run(rows: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        if broken:
            raise error
        return grey(rows)

    patient = Patient(client, run)
    problem = check_problem(await client.post("/decode", json=BODY), 500)
    assert "CUDA" not in str(problem)
    assert "the model failed" in check_problem(await client.get("/health/ready"), 503)["detail"]
    broken = False
    assert (await client.get("/health/ready")).status_code == 200
    await patient.end()


@pytest.mark.parametrize("output", [(), (np.zeros((3, HEIGHT, WIDTH, 3), np.uint8),)])
async def test_a_run_that_answers_nonsense_fails_its_own_request(
    client: httpx.AsyncClient, output: Any
) -> None:
    patient = Patient(client, lambda _: output)
    check_problem(await client.post("/decode", json=BODY), 500)
    await patient.end()


async def test_a_worker_that_dies_makes_the_service_unready(client: httpx.AsyncClient) -> None:
    def die(rows: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        raise SystemExit(len(rows))

    patient = Patient(client, die)
    check_problem(await client.post("/decode", json=BODY), 500)
    assert "died" in check_problem(await client.get("/health/ready"), 503)["detail"]
    check_problem(await client.post("/decode", json=BODY), 503)
    await patient.end()


def change(text: str, *path: str, to: object) -> str:
    """A manifest with one value changed."""
    manifest = json.loads(text)
    inner = manifest
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = to
    return json.dumps(manifest)


FOLDER_FAULTS: dict[str, Callable[[Path], object]] = {
    "no manifest": lambda folder: (folder / "model.json").unlink(),
    "manifest is no JSON": lambda folder: (folder / "model.json").write_text("{"),
    "manifest is deep": lambda folder: (folder / "model.json").write_text("[" * 100_000),
    "manifest of another format": lambda folder: (folder / "model.json").write_text(
        change((folder / "model.json").read_text(), "format", to=2)
    ),
    "manifest leads elsewhere": lambda folder: (folder / "model.json").write_text(
        change((folder / "model.json").read_text(), "files", "encoder", "path", to="../encoder.onnx")
    ),
    "manifest promises another size": lambda folder: (folder / "model.json").write_text(
        change((folder / "model.json").read_text(), "image_size", "width", to=32)
    ),
    "file missing": lambda folder: (folder / "decoder.onnx").unlink(),
    "file truncated": lambda folder: (folder / "decoder.onnx").write_bytes(
        (folder / "decoder.onnx").read_bytes()[:-1]
    ),
    "file altered": lambda folder: (folder / "encoder.onnx").write_bytes(
        (folder / "encoder.onnx").read_bytes()[:-1] + b"\0"
    ),
    "prior is no archive": lambda folder: (folder / "prior.npz").write_bytes(b"PK"),
}


@pytest.mark.parametrize("name", FOLDER_FAULTS)
def test_a_faulty_model_folder_is_refused_in_one_line(model_folder: Path, tmp_path: Path, name: str) -> None:
    broken = shutil.copytree(model_folder, tmp_path / "broken")
    FOLDER_FAULTS[name](broken)
    told = refusal(model_dir=broken, device="cpu", port=0)
    lines = [
        line for line in told.splitlines() if "INFO" not in line and "startup failed. Exiting" not in line
    ]
    assert len(lines) == 1, lines


@pytest.mark.parametrize("content", [None, "", "\n \n", "clé-secrète\n"])
def test_a_faulty_file_of_keys_is_refused_in_one_line(
    model_folder: Path, tmp_path: Path, content: str | None
) -> None:
    keys = tmp_path / "keys"
    if content is not None:
        keys.write_text(content)
    output = refusal(model_dir=model_folder, api_keys_file=keys)
    assert output.count("\n") == 1
    assert output.startswith("CAR_VAE_API_KEYS_FILE: ")
    assert "crète" not in output


def test_sigterm_under_load_leaves_no_request_half_answered(model_folder: Path) -> None:
    """Every request that was taken is answered whole; the process ends with 0, which `running` asserts."""
    answers: Counter[int] = Counter()
    content = request("POST", "/reconstruct", *form([picture()] * 4))

    async def client(port: int, after: asyncio.Event) -> None:
        connection = Connection(port)
        with suppress(ConnectionError):
            while True:
                answers[(await connection.send(content)).status] += 1
                if answers[200] > 40:
                    after.set()
        connection.close()

    async def load(port: int, kill: Callable[[], None]) -> None:
        after = asyncio.Event()
        clients = [asyncio.ensure_future(client(port, after)) for _ in range(16)]
        await after.wait()
        kill()
        await asyncio.gather(*clients)

    with running(model_folder, log_level="warning") as service:
        asyncio.run(load(service.port, lambda: service.process.send_signal(signal.SIGTERM)))
    assert set(answers) <= {200, 503}
    assert answers[200] > 40
