"""The bill of materials: valid CycloneDX that lists what is pinned, and the model that is packed."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from app.model.default_model import DEFAULT_MODEL
from tests.deployment.test_images import DOCKER, PYPROJECT, pinned

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = runpy.run_path(str(DOCKER / "sbom.py"))["write"]("cpu", tmp_path_factory.mktemp("sbom"))
    assert path.name == "car-vae-cpu.cdx.json"
    return path.read_text()


@pytest.fixture(scope="module")
def components(written: str) -> dict[str, dict[str, Any]]:
    return {component["name"]: component for component in json.loads(written)["components"]}


def test_it_is_valid(written: str) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(written) is None


def test_it_lists_every_package_that_is_pinned(components: dict[str, dict[str, Any]]) -> None:
    listed = {name: part["version"] for name, part in components.items() if part["type"] == "library"}
    assert listed == pinned(DOCKER / "requirements-cpu.txt")
    hashes = components["click"]["externalReferences"][0]["hashes"]
    lock = (DOCKER / "requirements-cpu.txt").read_text()
    assert hashes
    assert all(f"--hash=sha256:{each['content']}" in lock for each in hashes)


def test_it_lists_the_model_with_its_files(components: dict[str, dict[str, Any]]) -> None:
    model = components["car-vae"]
    assert model["type"] == "machine-learning-model"
    assert f"{model['name']}/{model['version']}" == DEFAULT_MODEL
    files = {part["name"]: part["hashes"][0]["content"] for part in model["components"]}
    manifest = json.loads((ROOT / "models" / DEFAULT_MODEL / "model.json").read_text())["files"]
    assert files["encoder.onnx"] == manifest["encoder"]["sha256"]
    assert files["decoder-int8.onnx"] == manifest["int8"]["decoder"]["sha256"]


def test_it_is_of_this_version_and_depends_on_all(written: str, components: dict[str, Any]) -> None:
    bill = json.loads(written)
    program = bill["metadata"]["component"]
    assert "timestamp" not in bill["metadata"]
    assert (program["name"], program["version"]) == ("car-vae", PYPROJECT["project"]["version"])
    needs = next(each["dependsOn"] for each in bill["dependencies"] if each["ref"] == program["bom-ref"])
    assert sorted(needs) == sorted(part["bom-ref"] for part in components.values())
