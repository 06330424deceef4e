"""python docker/images.py [TARGET ...]: builds and labels images, and writes their sizes to docker/README.md.

Needs a Docker engine. Without targets it builds those that serve.
"""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).parent.parent
README = ROOT / "docker" / "README.md"
MARKS = "<!-- images -->\n", "<!-- end of images -->"
FOR = {
    "cpu": "serving anywhere",
    "gpu": "serving on an NVIDIA GPU; the host needs the driver and the NVIDIA Container Toolkit",
    "train": "training, on either",
}
BASE = "python:3.11-slim-bookworm"
SHOWN = 0.05
"""The share of an image that a part needs to be named."""

NAMES = {
    "onnxruntime": "ONNX Runtime",
    "numpy": "NumPy",
    "numpy.libs": "NumPy",
    "torch": "PyTorch",
    "pillow.libs": "Pillow",
    "PIL": "Pillow",
    "cu13": "CUDA",
    "cudnn": "cuDNN",
    "triton": "Triton",
}
PACKAGES = "/opt/venv/lib/python3.11/site-packages"


def output(*command: str) -> str:
    """What a command prints."""
    return subprocess.check_output(command, cwd=ROOT, text=True).strip()


def git(*arguments: str) -> str:
    """What git says; nothing outside a clone."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def labels(now: datetime, revision: str, remote: str) -> dict[str, str]:
    """What the Dockerfile cannot know: when, from which commit and from where; each where it is known."""
    found = {"created": now.strftime("%Y-%m-%dT%H:%M:%SZ")}
    if revision:
        found["revision"] = revision
    address = urlsplit(remote)
    if address.scheme == "https" and address.hostname:  # without what may stand before the host: a password
        found["source"] = f"https://{address.hostname}{address.path.removesuffix('.git')}"
    return {f"org.opencontainers.image.{name}": value for name, value in found.items()}


def build(target: str) -> None:
    """Build one image and tag it car-vae:TARGET."""
    now = datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", time.time())), UTC)
    given = labels(now, git("rev-parse", "HEAD"), git("remote", "get-url", "origin"))
    options = [f"--label={name}={value}" for name, value in given.items()]
    command = ["docker", "build", "--file=docker/Dockerfile", f"--target={target}", f"--tag=car-vae:{target}"]
    subprocess.run(
        [*command, *options, "."], cwd=ROOT, env={"DOCKER_BUILDKIT": "1", **os.environ}, check=True
    )


def size(image: str) -> int:
    """Bytes of an image, unpacked."""
    return int(output("docker", "image", "inspect", "--format={{.Size}}", image))


def parts(usage: str) -> dict[str, int]:
    """Bytes by part of an image, from what `du` says of its packages to a depth of two.

    A package's bundled libraries count to it; NVIDIA's packages, which share a folder, and the model count
    by themselves.
    """
    folders: dict[str, int] = {}
    for line in usage.splitlines():
        number, path = line.split("\t")
        folders[path.removeprefix(PACKAGES).lstrip("/")] = int(number)
    found: dict[str, int] = {}
    for path, count in folders.items():
        if path and "/" not in path and path != "nvidia":
            name = NAMES.get(path, path).removesuffix(".libs")
            found[name] = found.get(name, 0) + count
        elif path.startswith("nvidia/"):
            name = path.removeprefix("nvidia/")
            found[NAMES.get(name, name)] = count
    found["app"] -= folders["app/models"]
    return {**found, "the model": folders["app/models"]}


def row(target: str, total: int, base: int, inside: Mapping[str, int]) -> str:
    """A line of the table: what a target adds to its base, in bytes, and which parts are most of it."""
    added = total - base
    large = sorted((item for item in inside.items() if item[1] > SHOWN * added), key=lambda item: -item[1])
    named = ", ".join(f"{name} {_megabytes(count)}" for name, count in large)
    return f"| `{target}` | {FOR[target]} | {_megabytes(added)}: {named} |"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"


def updated(text: str, rows: Mapping[str, str]) -> str:
    """The text with its table of images made anew; targets that are not among `rows` keep theirs."""
    start, rest = text.split(MARKS[0])
    table, end = rest.split(MARKS[1])
    kept = {
        target: line for line in table.splitlines() for target in FOR if line.startswith(f"| `{target}` ")
    }
    head = f"| target | for | size beyond `{BASE}` |\n| --- | --- | --- |\n"
    lines = {**kept, **rows}
    body = "".join(f"{lines[target]}\n" for target in FOR if target in lines)
    return f"{start}{MARKS[0]}{head}{body}{MARKS[1]}{end}"


def main(targets: list[str]) -> int:
    """Build, measure, write; gives the exit code."""
    unknown = set(targets) - set(FOR)
    if unknown:
        print(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(FOR)}", file=sys.stderr)
        return 2
    rows = {}
    for target in targets or ("cpu", "gpu"):
        build(target)
        base = size(BASE)
        image = f"car-vae:{target}"
        du = ("--entrypoint=du", image, "--bytes", "--max-depth=2", PACKAGES)
        rows[target] = row(target, size(image), base, parts(output("docker", "run", "--rm", *du)))
        print(rows[target])
    README.write_text(updated(README.read_text(), rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
