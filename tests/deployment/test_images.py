"""What the images are made of, fixed by hash and in step with the project; an honest health check."""

import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DOCKER = ROOT / "docker"
PINNED = re.compile(r"([a-z0-9-]+)==(\S+)(?: \\)?$", re.MULTILINE)


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(path: Path) -> dict[str, str]:
    return dict(PINNED.findall(path.read_text()))


def project() -> dict[str, object]:
    content: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return content


def required(extra: str) -> set[str]:
    described = project()
    assert isinstance(described["dependencies"], list)
    assert isinstance(described["optional-dependencies"], dict)
    lines = described["dependencies"] + described["optional-dependencies"][extra]
    return {normal(re.split(r"[\[<>=!~; ]", line)[0]) for line in lines}


@pytest.mark.parametrize("extra", ["cpu", "gpu"])
def test_lists_hold_what_the_project_requires_in_the_versions_that_are_tested(extra: str) -> None:
    listed = pinned(DOCKER / f"requirements-{extra}.txt")
    constraints = pinned(ROOT / "constraints.txt")
    assert required(extra) | required("otel") <= set(listed)
    assert {name for name in listed if constraints.get(name, listed[name]) != listed[name]} == set()
    assert "torch" not in listed


@pytest.mark.parametrize("extra", ["cpu", "gpu", "build"])
def test_every_line_of_a_list_is_fixed_by_hash(extra: str) -> None:
    text = (DOCKER / f"requirements-{extra}.txt").read_text()
    text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
    for entry in filter(None, re.split(r"\n(?=\S)", text.strip())):
        assert re.fullmatch(r"[a-z0-9-]+==\S+( \\\n    --hash=sha256:[0-9a-f]{64})+", entry), entry


def test_constraints_are_exact_and_bring_no_addresses() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][\w.]*", line) for line in lines)
    for extra in ("cpu", "gpu", "otel", "train", "dev"):
        assert required(extra) <= set(pinned(ROOT / "constraints.txt"))


def test_the_image_says_the_version_of_the_project() -> None:
    assert f"ARG VERSION={project()['version']}\n" in (DOCKER / "Dockerfile").read_text()


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
