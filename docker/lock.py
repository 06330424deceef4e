"""python docker/lock.py: pins what images install and are built by, with hashes, within constraints.txt."""

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
HEAD = """\
# What {installs}: exact versions and hashes for Linux and Python 3.11. Made by `make lock`.
"""
OPTIONS = (
    "--constraint=constraints.txt",
    "--generate-hashes",
    "--strip-extras",
    "--no-annotate",
    "--no-header",
    "--no-emit-options",
    "--quiet",
)


def requirements(pyproject: dict[str, Any]) -> dict[str, tuple[str, list[str]]]:
    """By the name of a list, what it is for and the requirements that it pins.

    The images have what tracing needs, as nothing can be installed in them later.
    """
    cpu = pyproject["project"]["dependencies"] + pyproject["project"]["optional-dependencies"]["otel"]
    gpu = [line for line in cpu if not line.startswith("onnxruntime>")]
    gpu += pyproject["dependency-groups"]["gpu"]
    return {
        "cpu": ("the `cpu` image installs", cpu),
        "gpu": ("the `gpu` image installs", gpu),
        "build": ("builds the package inside the images", pyproject["build-system"]["requires"]),
    }


def lock(name: str, installs: str, lines: list[str]) -> None:
    """Write docker/requirements-<name>.txt."""
    target = ROOT / "docker" / f"requirements-{name}.txt"
    command = [sys.executable, "-m", "piptools", "compile", *OPTIONS, "--output-file", str(target), "-"]
    subprocess.run(command, cwd=ROOT, input="\n".join(lines), text=True, check=True)
    found = target.read_text().splitlines(keepends=True)
    # Options are where this machine found the packages; the versions and hashes are what is pinned.
    pins = "".join(line for line in found if not line.startswith("--")).lstrip()
    target.write_text(HEAD.format(installs=installs) + pins)


if __name__ == "__main__":
    for name, (installs, lines) in requirements(tomllib.loads((ROOT / "pyproject.toml").read_text())).items():
        lock(name, installs, lines)
