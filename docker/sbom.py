"""python docker/sbom.py: writes CycloneDX bills of what the serving images are made of to dist/.

Each lists the pinned Python packages and the model with the hashes of their files. What the base image brings
is in that image's own bill.
"""

import json
import subprocess
import sys
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6

from app.model.default_model import DEFAULT_MODEL, default_model_dir
from app.model.manifest import read_model_folder

ROOT = Path(__file__).parent.parent


def model() -> Component:
    """The default model, with its verified files."""
    manifest = read_model_folder(default_model_dir()).manifest
    files = [
        Component(
            type=ComponentType.FILE,
            name=file.path,
            bom_ref=f"{manifest.id}/{file.path}",
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=file.sha256)],
        )
        for file in manifest.all_files()
    ]
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name=manifest.name,
        version=str(manifest.version),
        bom_ref=manifest.id,
        components=files,
    )


def bill(image: str) -> Bom:
    """What `cyclonedx-py` reads from the requirements of an image, and the model."""
    requirements = str(ROOT / "docker" / f"requirements-{image}.txt")
    command = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements", requirements]
    made = subprocess.check_output(
        [*command, "--pyproject", str(ROOT / "pyproject.toml"), "--output-reproducible", "--no-validate"]
    )
    bom: Bom = Bom.from_json(json.loads(made))  # type: ignore[attr-defined]  # its serialiser adds it
    bom.components.add(model())
    bom.serial_number = uuid5(NAMESPACE_OID, f"{made!r} {DEFAULT_MODEL}")
    bom.metadata.timestamp = None  # type: ignore[assignment]  # CycloneDX does without
    program = bom.metadata.component
    assert program is not None  # it is what --pyproject is for
    bom.register_dependency(program, bom.components)
    return bom


def write(image: str, folder: Path) -> Path:
    """Write the bill of an image; gives the path. The same pins and model give the same bytes."""
    target = folder / f"car-vae-{image}.cdx.json"
    target.write_text(JsonV1Dot6(bill(image)).output_as_string(indent=2) + "\n")
    return target


if __name__ == "__main__":
    (ROOT / "dist").mkdir(exist_ok=True)
    for each in ("cpu", "gpu"):
        print(write(each, ROOT / "dist").relative_to(ROOT))
