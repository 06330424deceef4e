"""A service, the document it serves, and a project with the npm packages of package.json."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.images import file_of, photograph
from tests.performance.service import running
from tests.tiny_model import add_atlas, add_int8, write_tiny_model

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"
INSTALL_SECONDS = 300
PHOTOGRAPHS = ("one.jpg", "other.jpg")


@dataclass(frozen=True)
class Project:
    """A folder with two photographs, in which programs of the installed packages are run."""

    folder: Path
    url: str

    def run(self, *command: str) -> str:
        """The output of a command that has to end well."""
        path = os.pathsep.join((str(MODULES / ".bin"), os.environ["PATH"]))
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=os.environ | {"PATH": path, "NO_COLOR": "1", "REDOCLY_TELEMETRY": "off"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def run_typescript(self, name: str) -> str:
        """The output of a module."""
        bundle = name.removesuffix(".ts") + ".mjs"
        options = ("--bundle", "--packages=external", "--platform=node", "--format=esm")
        self.run("esbuild", name, *options, f"--outfile={bundle}", "--log-level=warning")
        return self.run("node", bundle)


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the service is."""
    folder = write_tiny_model(tmp_path_factory.mktemp("models") / "tiny-vae" / "1", refiner=True, codes=True)
    graphs = [(folder / f"{half}.onnx").read_bytes() for half in ("encoder", "decoder")]
    add_int8(folder, *graphs)
    add_atlas(folder)
    with running(folder, log_level="warning", serve_decoder=True) as service:
        yield f"http://127.0.0.1:{service.port}"


@pytest.fixture(scope="session")
def document(url: str) -> dict[str, Any]:
    """What the service says of itself."""
    document: dict[str, Any] = httpx.get(f"{url}/openapi.json").raise_for_status().json()
    return document


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two photographs."""
    folder = tmp_path_factory.mktemp("project")
    for seed, name in enumerate(PHOTOGRAPHS):
        (folder / name).write_bytes(file_of(photograph(seed=seed)))
    return folder


@pytest.fixture(scope="session")
def project(folder: Path, url: str) -> Project:
    """The same with packages, which are installed once for a checkout."""
    installed = MODULES / ".package-lock.json"
    package = HERE / "package.json"
    if not installed.exists() or installed.stat().st_mtime < package.stat().st_mtime:
        _install()
    (folder / "node_modules").symlink_to(MODULES)
    shutil.copy(package, folder)
    return Project(folder, url)


def _install() -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    options = ("--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--silent")
    try:
        done = subprocess.run(
            [npm, "install", *options],
            cwd=HERE,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not install the packages within {INSTALL_SECONDS} s")
    if done.returncode:
        pytest.skip(f"npm does not reach its packages: {done.stderr.strip()[-300:]}")
