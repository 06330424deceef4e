"""python docker/lock.py: pins what each image installs, with hashes, within constraints.txt."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
HEAD = """\
# What the `{extra}` image installs: exact versions and hashes for Linux and Python 3.11. Made by `make lock`.
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


def lock(extra: str) -> None:
    """Write docker/requirements-<extra>.txt, with tracing: nothing can be installed in an image later."""
    target = ROOT / "docker" / f"requirements-{extra}.txt"
    command = [sys.executable, "-m", "piptools", "compile", "--extra", extra, "--extra", "otel", *OPTIONS]
    subprocess.run([*command, "--output-file", str(target), "pyproject.toml"], cwd=ROOT, check=True)
    lines = target.read_text().splitlines(keepends=True)
    # Options are where this machine found the packages; the versions and hashes are what is pinned.
    pins = "".join(line for line in lines if not line.startswith("--")).lstrip()
    target.write_text(HEAD.format(extra=extra) + pins)


if __name__ == "__main__":
    for extra in ("cpu", "gpu"):
        lock(extra)
