"""The server process: refusals in one line, and an end without fuss."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPResponse
from pathlib import Path

import pytest
from fastapi import FastAPI

from app.model import manifest
from app.serve import configuration
from app.settings import Settings
from tests.app.conftest import client_of
from tests.images import file_of, photograph
from tests.tiny_model import write_tiny_model

ROOT = Path(__file__).parent.parent.parent


def environment(**settings: object) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CAR_VAE_")}
    return clean | {f"CAR_VAE_{name.upper()}": str(value) for name, value in settings.items()}


@contextmanager
def running(**settings: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "app"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(**settings),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def refusal(**settings: object) -> str:
    with running(**settings) as process:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 1
    assert "Traceback" not in output
    return output


def test_an_older_model_without_codes_is_refused(model_folder: Path, tmp_path: Path) -> None:
    older = write_tiny_model(tmp_path / "older", version=2)
    output = refusal(model_dir=model_folder, older_models=older, device="cpu", port=0)
    assert f"{older} has no codes that could be read; leave it out" in output
    assert "Traceback" not in output


def test_a_missing_model_is_refused_in_one_line(tmp_path: Path) -> None:
    output = refusal(model_dir=tmp_path / "none")
    assert output.count("\n") == 1
    assert "model.json" in output


@pytest.mark.parametrize("workers", [1, 2])
def test_a_damaged_model_is_refused_once_and_not_by_every_worker(
    model_folder: Path, tmp_path: Path, workers: int
) -> None:
    damaged = shutil.copytree(model_folder, tmp_path / "damaged")
    content = bytearray((damaged / "prior.npz").read_bytes())
    content[-1] ^= 1
    (damaged / "prior.npz").write_bytes(content)
    output = refusal(model_dir=damaged, device="cpu", workers=workers)
    assert output.count("\n") == 1
    assert "prior.npz was altered" in output


async def test_model_files_are_read_once_a_start(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: Counter[str] = Counter()
    read = manifest.read_model_file

    def counted(folder: Path, file: manifest.ModelFile) -> bytes:
        opened[file.path] += 1
        return read(folder, file)

    monkeypatch.setattr(manifest, "read_model_file", counted)
    app = configuration(settings).app
    assert isinstance(app, FastAPI)
    async with app.router.lifespan_context(app), client_of(app) as client:
        assert (await client.get("/health/ready")).status_code == 200
    assert opened == {"encoder.onnx": 1, "decoder.onnx": 1, "prior.npz": 1}
    assert app.state.app_state.folder is None


COUNT_SPARED = """
import gc
import uvicorn
from app.serve import create_worker_app, run

uvicorn.Server.run = lambda self, sockets: None
{start}
print(gc.get_freeze_count())
"""


@pytest.mark.parametrize("start", ["run()", "create_worker_app()"])
def test_what_is_there_at_the_start_is_no_work_for_the_collector(model_folder: Path, start: str) -> None:
    script = COUNT_SPARED.format(start=start)
    settings = environment(model_dir=model_folder, device="cpu", port=0)
    counted = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=settings, capture_output=True, text=True, check=True
    )
    assert int(counted.stdout) > 50_000


def test_a_port_that_kubernetes_set_is_explained(model_folder: Path) -> None:
    output = refusal(model_dir=model_folder, port="tcp://10.0.0.1:8000")
    assert output.startswith("CAR_VAE_PORT: ")
    assert "Kubernetes" in output
    assert "enableServiceLinks" in output


def test_wrong_settings_are_named(model_folder: Path) -> None:
    output = refusal(model_dir=model_folder, port="many", api_keys="")
    assert re.findall(r"^CAR_VAE_\w+", output, re.MULTILINE) == ["CAR_VAE_PORT", "CAR_VAE_API_KEYS"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_fault_that_only_workers_find_ends_the_start(
    model_folder: Path, tmp_path: Path, workers: int
) -> None:
    broken = shutil.copytree(model_folder, tmp_path / "broken")
    document = (model_folder / "model.json").read_text()
    (broken / "model.json").write_text(document.replace('"latent_dim": 8', '"latent_dim": 9'))
    output = refusal(model_dir=broken, device="cpu", workers=workers, port=0)
    assert "export the model again" in output


def listening(url: str) -> HTTPResponse:
    """The answer, as soon as a worker listens: it says that it has started a moment before."""
    deadline = time.monotonic() + 30
    while True:
        try:
            response: HTTPResponse = urllib.request.urlopen(url, timeout=30)
            return response
        except urllib.error.URLError as error:
            if isinstance(error, urllib.error.HTTPError) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_ends_with_success(model_folder: Path, workers: int) -> None:
    with running(model_dir=model_folder, device="cpu", workers=workers, port=0) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            text = "".join(lines)
            if text.count("startup complete") == workers and "running on http" in text:
                break
        address = re.search(r"http://127\.0\.0\.1:\d+", "".join(lines))
        assert address is not None, lines
        with listening(f"{address[0]}/sample?seed=1") as answer:
            assert answer.headers["content-type"] == "image/png"
            assert "server" not in answer.headers
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
    assert "Traceback" not in output


def said_until(process: subprocess.Popen[str], started: int) -> str:
    """What the process says until so many workers have started."""
    assert process.stdout is not None
    said = ""
    while said.count("startup complete") < started or ("running on http" not in said and started > 1):
        line = process.stdout.readline()
        assert line, said
        said += line
    return said


def test_what_a_killed_supervisor_started_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    model = write_tiny_model(tmp_path / "tiny-vae" / "1", codes=True)
    with running(model_dir=model, device="cpu", workers=2, port=0) as process:
        address, port = re.findall(r"(http://127\.0\.0\.1:(\d+))", said_until(process, 2))[0]
        listening(f"{address}/health/live").close()
        request = urllib.request.Request(f"{address}/compress", file_of(photograph(60, 40)))
        request.add_header("Content-Type", "image/png")
        with urllib.request.urlopen(request, timeout=60) as answer:  # so that there is a packer too
            assert answer.status == 200
        process.kill()
        process.communicate(timeout=60)  # until the last that can write there has ended
    with socket.create_server(("127.0.0.1", int(port))):
        pass


def test_each_worker_tells_the_metrics_of_all(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with running(model_dir=model_folder, device="cpu", workers=2, port=0) as process:
        said = said_until(process, 2)
        address = re.findall(r"http://127\.0\.0\.1:\d+", said)[0]
        first, second = re.findall(r"Started server process \[(\d+)\]", said)

        def exposed() -> str:
            with listening(f"{address}/metrics") as answer:
                return str(answer.read(), "utf-8")

        for _ in range(10):
            with listening(f"{address}/sample?seed=1"):
                pass
        count = 'car_vae_requests_total{endpoint="/sample",status="200"} 10.0'
        info = 'car_vae_info{model="tiny-vae/1",provider="CPUExecutionProvider"} 1.0'
        while count not in exposed():  # an answer is counted just after it was sent
            time.sleep(0.05)
        # Whichever of the two has served them and whichever is asked: only one of the two is left to tell.
        for victim in (first, second):
            os.kill(int(victim), signal.SIGKILL)
            said_until(process, 1)
            now = exposed()
            assert count in now
            assert info in now
            assert len(re.findall(r"^process_resident_memory_bytes \d", now, re.MULTILINE)) == 1
            assert not list(tmp_path.glob(f"*/gauge_live*_{victim}.db"))
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert not list(tmp_path.glob("car-vae-*"))


@pytest.mark.parametrize("workers", [1, 2])
def test_the_address_of_all_means_both_families(model_folder: Path, workers: int) -> None:
    if not Path("/proc/net/if_inet6").exists():
        pytest.skip("no IPv6 here")
    with running(model_dir=model_folder, device="cpu", host="::", port=0, workers=workers) as process:
        assert process.stdout is not None
        port = next(found[1] for line in process.stdout if (found := re.search(r"http://\S*:(\d+)", line)))
        for host in ("127.0.0.1", "[::1]"):
            with listening(f"http://{host}:{port}/health/live") as answer:
                assert answer.status == 200


def test_a_taken_port_is_refused(model_folder: Path) -> None:
    with running(model_dir=model_folder, device="cpu", port=0) as process:
        assert process.stdout is not None
        address = next(found for line in process.stdout if (found := re.search(r"127\.0\.0\.1:(\d+)", line)))
        assert "Address already in use" in refusal(model_dir=model_folder, device="cpu", port=address[1])
