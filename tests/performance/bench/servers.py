"""The servers that are compared, how each is started, and the settings tried for it."""

import hashlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPMessage
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
PEERS = "tests.performance.bench.peers"

SYSTEM_PYTHON = "/usr/bin/python3"
"""Triton's workers load the distribution's libpython, which goes only with the distribution's own Python."""

Settings = Mapping[str, str]
Command = Callable[[Path, int], list[str]]
"""(Python interpreter, port) -> what to run."""
Payload = Callable[[HTTPMessage, bytes], bytes]
"""(headers, body) of an answer -> what the endpoint answered, without the server's own wrapping."""


ONE_THREAD_EACH = {"OPENBLAS_NUM_THREADS": "1"}
"""As this service sets it for itself: NumPy's products spin in every other thread, at ten times the cost."""


@dataclass(frozen=True)
class Server:
    """A server under test.

    Attributes:
        title: as it stands in the report.
        command: starts it.
        variants: settings to try, by name; environment variables. The best is kept.
        module: its file in `peers`, with the requirements beside it, and the folder of its virtual
            environment; None for this service, which runs in the environment of the harness.
        ready: paths that all answer 200 once requests are answered.
        routes: paths, where they differ from this service's.
        headers: sent with every request.
        payload: takes the server's own wrapping off an answer.
        base: the Python that its virtual environment is made with.
    """

    name: str
    title: str
    command: Command
    variants: Mapping[str, Settings]
    module: str | None = None
    ready: Sequence[str] = ("/health",)
    routes: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    payload: Payload = lambda _, body: body
    base: str = sys.executable

    @property
    def ours(self) -> bool:
        """Whether this is the service of this repository."""
        return self.module is None

    def path(self, path: str) -> str:
        """Where the server has what this service has at `path`."""
        return self.routes.get(path, path)

    def environment(self, model_dir: Path, port: int, variant: str) -> dict[str, str]:
        """The environment that it runs in."""
        service = {"CAR_VAE_MODEL_DIR": str(model_dir), "CAR_VAE_PORT": str(port), "CAR_VAE_DEVICE": "cpu"}
        service["CAR_VAE_PRECISION"] = "fp32"  # as the graphs that all others run
        bench = {"BENCH_MODEL_DIR": str(model_dir), "BENCH_PORT": str(port), "PYTHONPATH": str(REPOSITORY)}
        bench |= ONE_THREAD_EACH
        return {**os.environ, **(service if self.ours else bench), **self.variants[variant]}


def script(module: str) -> Command:
    """A peer that is started as a module."""
    return lambda python, _: [str(python), "-m", f"{PEERS}.{module}"]


def _mosec(python: Path, port: int) -> list[str]:
    command = [str(python), "-m", f"{PEERS}.mosec_server", "--timeout", str(1000 * PATIENCE_SECONDS)]
    return [*command, "--address", "127.0.0.1", "--port", str(port)]


def _bentoml(python: Path, port: int) -> list[str]:
    command = [str(python), "-m", "bentoml", "serve", f"{PEERS}.bentoml_server:Vae"]
    return [*command, "--host", "127.0.0.1", "--port", str(port), "--working-dir", str(REPOSITORY)]


def _triton_payload(headers: HTTPMessage, body: bytes) -> bytes:
    """A binary answer: a JSON header, then each element of a BYTES tensor after its length in four bytes."""
    start = int(headers["Inference-Header-Content-Length"])
    length = int.from_bytes(body[start : start + 4], "little")
    return body[start + 4 : start + 4 + length]


def _grid(workers: tuple[int, ...], batches: tuple[int, ...], waits: tuple[int, ...]) -> dict[str, Settings]:
    return {
        f"{count} workers, batches of {rows}, wait {wait} ms": {
            "BENCH_WORKERS": str(count),
            "BENCH_BATCH": str(rows),
            "BENCH_WAIT_MS": str(wait),
        }
        for count in workers
        for rows in batches
        for wait in waits
    }


MOSEC = _grid(workers=(1, 2), batches=(16,), waits=(1, 5))

ENDPOINTS = ("encode", "decode", "reconstruct")

RAY = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_USAGE_STATS_ENABLED": "0"}

PATIENCE_SECONDS = 60
"""No server refuses what a closed loop asks of it: refusals would be quick, and no comparison."""
PATIENT = {"CAR_VAE_QUEUE_ROWS": "8192", "CAR_VAE_QUEUE_TIMEOUT": str(PATIENCE_SECONDS)}

OURS = Server(
    name="car-vae",
    title="this service",
    command=lambda python, _: [str(python), "-m", "app"],
    variants={
        f"{workers} workers, {threads} threads, {pictures} for pictures": {
            "CAR_VAE_WORKERS": str(workers),
            "CAR_VAE_THREADS": str(threads),
            "CAR_VAE_PICTURE_THREADS": str(pictures),
            **PATIENT,
        }
        for workers, threads, pictures in ((2, 1, 1), (2, 1, 2), (1, 1, 2), (1, 2, 2))
    },
    ready=("/health/ready",),
)

SERVERS = (
    OURS,
    Server(
        name="fastapi-torch",
        title="FastAPI + torch, as tutorials write it",
        command=script("fastapi_torch"),
        module="fastapi_torch",
        variants={
            "1 worker, default threads": {},
            "2 workers, 1 thread": {"BENCH_WORKERS": "2", "BENCH_THREADS": "1"},
        },
    ),
    Server(
        name="fastapi-onnxruntime",
        title="FastAPI + ONNX Runtime, no batching",
        command=script("fastapi_onnxruntime"),
        module="fastapi_onnxruntime",
        variants={
            f"{workers} workers, {threads} threads": {
                "BENCH_WORKERS": str(workers),
                "BENCH_THREADS": str(threads),
            }
            for workers, threads in ((2, 1), (1, 1), (1, 2))
        },
    ),
    Server(
        name="litserve",
        title="LitServe",
        command=script("litserve_server"),
        module="litserve_server",
        variants=_grid(
            workers=(1, 2), batches=(16,), waits=(2, 10)
        ),  # without a wait its workers spin at rest
    ),
    Server(
        name="bentoml",
        title="BentoML",
        command=_bentoml,
        module="bentoml_server",
        variants={f"{workers} workers": {"BENCH_WORKERS": str(workers)} for workers in (1, 2)},
        ready=("/readyz",),
    ),
    Server(
        name="mosec",
        title="mosec",
        command=_mosec,
        module="mosec_server",
        variants=MOSEC,
        ready=("/",),
    ),
    Server(
        name="mosec-own-fit",
        title="mosec with this service's picture code",
        command=_mosec,
        module="mosec_server",
        variants={name: {**settings, "BENCH_FIT": "car-vae"} for name, settings in MOSEC.items()},
        ready=("/",),
    ),
    Server(
        name="ray-serve",
        title="Ray Serve",
        command=script("ray_server"),
        module="ray_server",
        variants={
            f"{name}, {proxy}": {**settings, **RAY, "RAY_SERVE_ENABLE_HA_PROXY": enabled}
            for proxy, enabled in (("HAProxy", "1"), ("Ray's own proxy", "0"))
            for name, settings in _grid(workers=(1, 2), batches=(16,), waits=(0, 2)).items()
        },
    ),
    Server(
        name="triton",
        title="Triton (nvidia-pytriton)",
        command=script("triton_server"),
        module="triton_server",
        variants=_grid(workers=(1, 2), batches=(16,), waits=(0, 2)),
        ready=[f"/v2/models/{name}/ready" for name in ENDPOINTS],
        routes={f"/{name}": f"/v2/models/{name}/infer" for name in ENDPOINTS},
        headers={"Inference-Header-Content-Length": "0"},
        payload=_triton_payload,
        base=SYSTEM_PYTHON,
    ),
)


def free_port() -> int:
    """A TCP port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def interpreter(server: Server, cache: Path) -> Path:
    """The Python that runs a server; its virtual environment is made first where it is missing or outdated.

    Raises:
        subprocess.CalledProcessError: pip could not install the requirements.
    """
    if server.module is None:
        return Path(sys.executable)
    requirements = Path(__file__).parent / "peers" / f"{server.module}.txt"
    folder = cache / server.module
    stamp = folder / "requirements.sha256"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    python = folder / "bin" / "python"
    if not stamp.is_file() or stamp.read_text() != digest:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([server.base, "-m", "venv", "--without-pip", folder], check=True)
        pip = [sys.executable, "-m", "pip", "--python", str(python)]
        subprocess.run([*pip, "install", "--quiet", "-r", str(requirements)], check=True)
        stamp.write_text(digest)
    return python
