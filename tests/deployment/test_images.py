"""What the images are made of, fixed by hash and in step with the project; an honest health check."""

import re
import runpy
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCKER = ROOT / "docker"
PINNED = re.compile(r"([a-z0-9-]+)==(\S+)(?: \\)?$", re.MULTILINE)


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(path: Path) -> dict[str, str]:
    return dict(PINNED.findall(path.read_text()))


def names(lines: Iterable[str]) -> set[str]:
    """The packages that requirements name."""
    return {normal(re.split(r"[\[<>=!~; ]", line)[0]) for line in lines}


LISTS: dict[str, tuple[str, list[str]]] = runpy.run_path(str(DOCKER / "lock.py"))["requirements"](PYPROJECT)
IMAGES: dict[str, Any] = runpy.run_path(str(DOCKER / "images.py"))


@pytest.mark.parametrize("name", LISTS)
def test_lists_hold_what_the_project_requires_in_the_versions_that_are_tested(name: str) -> None:
    listed = pinned(DOCKER / f"requirements-{name}.txt")
    constraints = pinned(ROOT / "constraints.txt")
    assert names(LISTS[name][1]) <= set(listed)
    assert {name for name in listed if constraints.get(name, listed[name]) != listed[name]} == set()
    assert "torch" not in listed


def test_no_image_has_one_onnx_runtime_over_the_other() -> None:
    of = {name: set(pinned(DOCKER / f"requirements-{name}.txt")) for name in ("cpu", "gpu")}
    assert {name: {each for each in of[name] if each.startswith("onnxruntime")} for name in of} == {
        "cpu": {"onnxruntime"},
        "gpu": {"onnxruntime-gpu"},
    }
    assert of["cpu"] - {"onnxruntime"} <= of["gpu"]


@pytest.mark.parametrize("name", LISTS)
def test_every_line_of_a_list_is_fixed_by_hash(name: str) -> None:
    text = (DOCKER / f"requirements-{name}.txt").read_text()
    text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
    for entry in filter(None, re.split(r"\n(?=\S)", text.strip())):
        assert re.fullmatch(r"[a-z0-9-]+==\S+( \\\n    --hash=sha256:[0-9a-f]{64})+", entry), entry


def test_constraints_are_exact_and_bring_no_addresses() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][\w.]*", line) for line in lines)
    extras = PYPROJECT["project"]["optional-dependencies"].values()
    for requirements in (*(lines for _, lines in LISTS.values()), *extras):
        assert names(requirements) <= set(pinned(ROOT / "constraints.txt"))


def test_the_images_say_what_the_project_says() -> None:
    labels = dict(
        re.findall(r'org\.opencontainers\.image\.([\w.]+)="([^"]+)"', (DOCKER / "Dockerfile").read_text())
    )
    project = PYPROJECT["project"]
    assert (labels["title"], labels["version"]) == (project["name"], project["version"])
    assert labels["licenses"] == project["license"]
    assert labels["base.name"] == f"docker.io/library/{IMAGES['BASE']}"


def test_a_build_is_labelled_with_what_is_known_of_it() -> None:
    noon = datetime(2026, 11, 23, 12, tzinfo=UTC)
    created = {"org.opencontainers.image.created": "2026-11-23T12:00:00Z"}
    assert IMAGES["labels"](noon, "", "") == created
    assert IMAGES["labels"](noon, "0f0f", "/a/folder") == {
        **created,
        "org.opencontainers.image.revision": "0f0f",
    }
    source = IMAGES["labels"](noon, "", "https://me:secret@example.org/cars/car-vae.git")
    assert source["org.opencontainers.image.source"] == "https://example.org/cars/car-vae"


def test_sizes_are_named_by_their_largest_parts() -> None:
    usage = "".join(
        f"{count}\t{IMAGES['PACKAGES']}{path}\n"
        for path, count in {
            "/app": 33_000_000,
            "/app/models": 31_000_000,
            "/numpy": 50_000_000,
            "/numpy.libs": 30_000_000,
            "/nvidia": 1_300_000_000,
            "/nvidia/cu13": 1_300_000_000,
            "": 1_413_000_000,
        }.items()
    )
    inside = IMAGES["parts"](usage)
    assert inside == {
        "app": 2_000_000,
        "NumPy": 80_000_000,
        "CUDA": 1_300_000_000,
        "the model": 31_000_000,
    }
    row = IMAGES["row"]("train", 1_600_000_000, 200_000_000, inside)
    assert row == "| `train` | training, on either | 1.4 GB: CUDA 1.3 GB, NumPy 80 MB |"


def test_the_table_of_sizes_is_written_where_it_stands() -> None:
    text = (DOCKER / "README.md").read_text()
    assert IMAGES["updated"](text, {}) == text
    changed = IMAGES["updated"](text, {"gpu": "| `gpu` | measured anew |"})
    assert set(changed.splitlines()) - set(text.splitlines()) == {"| `gpu` | measured anew |"}
    assert len(changed.splitlines()) == len(text.splitlines())


def test_an_unknown_target_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert IMAGES["main"](["tpu"]) == 2
    assert "tpu; there are cpu, gpu, train" in capsys.readouterr().err


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server on a free port, which it gives, that answers every request with one status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health/ready" else 404)
            self.end_headers()
            self.wfile.write(b"the reason")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def health(**environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", str(DOCKER / "healthcheck.py")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)


@pytest.mark.parametrize(("status", "exit_code"), [(200, 0), (503, 1), (500, 1)])
@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_the_health_check_ends_well_only_where_the_service_is_ready(
    status: int, exit_code: int, host: str
) -> None:
    with answering(status) as port:
        checked = health(CAR_VAE_PORT=str(port), CAR_VAE_HOST=host)
    assert checked.returncode == exit_code
    assert checked.stdout == f"{status} the reason\n"


def test_health_check_of_nothing() -> None:
    with answering(200) as port:
        pass
    checked = health(CAR_VAE_PORT=str(port))
    assert checked.returncode == 1
    assert "refused" in checked.stdout
    assert checked.stderr == ""
