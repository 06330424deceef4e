"""Clients generated from the served document: what docs/clients.md shows, and a call of every operation."""

import base64
import importlib
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.clients.calls import Call, calls_of
from tests.clients.conftest import HERE, PHOTOGRAPHS, Project

GUIDE = HERE.parent.parent / "docs" / "clients.md"
SWEEPS = HERE / "sweeps"
DOCUMENTED_URL = "http://localhost:8000"
TYPESCRIPT = {
    "@hey-api/openapi-ts": "hey-api.ts",
    "openapi-typescript with openapi-fetch": "openapi-fetch.ts",
    "orval": "orval.ts",
}
"""Heading in docs/clients.md -> module that calls everything."""
PYTHON = "openapi-python-client"
COMPILER = {
    "compilerOptions": {
        "target": "es2022",
        "module": "es2022",
        "moduleResolution": "bundler",
        "lib": ["es2022", "dom", "dom.iterable", "dom.asynciterable"],
        "types": ["node"],
        "strict": True,
        "noEmit": True,
        "skipLibCheck": True,
    },
    "include": ["*.ts"],
}


def guide(heading: str, language: str, url: str) -> str:
    """What docs/clients.md says below a heading in one language, for the service at hand."""
    section = GUIDE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    (block,) = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    return str(block).replace(DOCUMENTED_URL, url)


def commands(heading: str, url: str) -> list[list[str]]:
    """The commands below a heading that generate; those that install are done already."""
    lines = guide(heading, "sh", url).splitlines()
    return [shlex.split(line) for line in lines if not re.match(r"(pip|npm) install", line)]


@pytest.fixture(scope="session")
def calls(url: str, document: dict[str, Any], folder: Path) -> list[Call]:
    files = [("image", (folder / name).read_bytes()) for name in PHOTOGRAPHS]
    latents = httpx.post(f"{url}/encode.json", files=files).raise_for_status().json()["latents"]
    items = httpx.post(f"{url}/compress.json", files=files).raise_for_status().json()["items"]
    return calls_of(document, latents, [code for item in items for code in item["codes"]])


@pytest.fixture(scope="session")
def expected(url: str, folder: Path, calls: list[Call]) -> dict[str, Any]:
    """What the service answers to each call: an object, or a file in base64."""
    answers = [(call, call.answer(url, folder)) for call in calls if call.operation != "metrics"]
    return {
        call.operation: answer.json() if call.is_json else base64.b64encode(answer.content).decode()
        for call, answer in answers
    }


@pytest.fixture(scope="session")
def typescript(project: Project, calls: list[Call]) -> Project:
    """The project with all TypeScript clients and the modules that use them, type-checked."""
    for heading, sweep in TYPESCRIPT.items():
        for _, *command in commands(heading, project.url):
            project.run(*command)
        (project.folder / f"guide-{sweep}").write_text(guide(heading, "ts", project.url))
    for module in SWEEPS.glob("*.ts"):
        shutil.copy(module, project.folder)
    (project.folder / "calls.json").write_text(json.dumps([call.as_dict() for call in calls]))
    (project.folder / "tsconfig.json").write_text(json.dumps(COMPILER))
    project.run("tsc")
    return project


def check_all_answers(found: dict[str, Any], expected: dict[str, Any]) -> None:
    metrics = found.pop("metrics")
    text = metrics if "car_vae" in metrics else base64.b64decode(metrics).decode()
    assert 'car_vae_requests_total{endpoint="/encode.json",status="200"}' in text
    assert set(found) == set(expected)
    for operation, answer in expected.items():
        assert found[operation] == answer, operation


def check_morph(folder: Path) -> None:
    """The animation that the guide makes."""
    morph = folder / "morph.gif"
    with Image.open(io.BytesIO(morph.read_bytes())) as image:
        assert (image.format, getattr(image, "n_frames", 1)) == ("GIF", 24)
    morph.unlink()


def test_every_operation_is_called(document: dict[str, Any], calls: list[Call]) -> None:
    """Those that negotiate have a path with a suffix for each of their media types."""
    operations = {
        each["operationId"]: path for path, item in document["paths"].items() for each in item.values()
    }
    negotiating = set(operations) - {call.operation for call in calls}
    suffixed = {path.rpartition(".")[0] for path in document["paths"]}
    assert negotiating == {name for name, path in operations.items() if path in suffixed}
    assert {call.media_type for call in calls} >= {"image/png", "image/gif", "application/json"}


@pytest.mark.parametrize("sweep", TYPESCRIPT.values())
def test_typescript_clients_call_everything(
    typescript: Project, sweep: str, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE_URL", typescript.url)
    check_all_answers(json.loads(typescript.run_typescript(sweep)), expected)


@pytest.mark.parametrize("sweep", TYPESCRIPT.values())
def test_typescript_clients_do_what_the_guide_shows(typescript: Project, sweep: str) -> None:
    typescript.run_typescript(f"guide-{sweep}")
    check_morph(typescript.folder)


@pytest.fixture(scope="session")
def python_client(url: str, folder: Path) -> Iterator[ModuleType]:
    pytest.importorskip("openapi_python_client", reason="the package openapi-python-client is not installed")
    (folder / "clients.yaml").write_text(guide(PYTHON, "yaml", url))
    ((_, *options),) = commands(PYTHON, url)
    done = subprocess.run(
        [sys.executable, "-m", "openapi_python_client", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "parsing" not in done.stdout, done.stdout  # what is left out is told so
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield importlib.import_module("car_vae")


def test_a_python_client_calls_everything(
    python_client: ModuleType, url: str, folder: Path, calls: list[Call], expected: dict[str, Any]
) -> None:
    models, types = (importlib.import_module(f"car_vae.{name}") for name in ("models", "types"))
    found = {}
    with python_client.Client(url, raise_on_unexpected_status=True) as client:
        for call in calls:
            tag = "service" if call.path.count(".") == 0 else "model"
            function = importlib.import_module(f"car_vae.api.{tag}.{call.operation}").sync
            arguments = dict(call.query)
            of_path = () if call.code is None else (call.code,)
            if call.photographs:
                names = PHOTOGRAPHS[: call.photographs]
                files = [types.File(io.BytesIO((folder / name).read_bytes()), name) for name in names]
                arguments["body"] = models.PicturesForm(files)
            elif call.json is not None:
                body = {"/decode": "LatentsBody", "/interpolate": "PathBody", "/sample": "SampleOptions"}
                arguments["body"] = getattr(models, body[call.path.partition(".")[0]]).from_dict(call.json)
            answer = function(*of_path, client=client, **arguments)
            if isinstance(answer, types.File):
                found[call.operation] = base64.b64encode(answer.payload.read()).decode()
            else:
                found[call.operation] = answer if isinstance(answer, str) else answer.to_dict()
    check_all_answers(found, expected)


def test_a_python_client_does_what_the_guide_shows(
    python_client: ModuleType, url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert python_client.Client
    monkeypatch.chdir(folder)
    exec(compile(guide(PYTHON, "python", url), GUIDE.name, "exec"), {})
    check_morph(folder)


def test_photographs_are_interpolated_by_a_python_client(
    python_client: ModuleType, url: str, folder: Path
) -> None:
    """Where bodies come in several types, the negotiating function takes each of them."""
    models, types = (importlib.import_module(f"car_vae.{name}") for name in ("models", "types"))
    interpolate = importlib.import_module("car_vae.api.model.interpolate")
    files = [types.File(io.BytesIO((folder / name).read_bytes()), name) for name in PHOTOGRAPHS]
    form = models.PathForm(files, lambdas=[0, 0.5, 1])
    with python_client.Client(url) as client:
        answer = interpolate.sync(client=client, body=form)
    given = [("image", (folder / name).read_bytes()) for name in PHOTOGRAPHS]
    expected = httpx.post(f"{url}/interpolate.png", files=given, data={"lambdas": "0,0.5,1"})
    assert answer.payload.read() == expected.raise_for_status().content


def test_linters_find_no_errors(project: Project) -> None:
    (project.folder / ".spectral.yaml").write_text("extends: spectral:oas\n")
    address = f"{project.url}/openapi.json"
    project.run("spectral", "lint", "--fail-severity", "error", address)
    project.run("redocly", "lint", address)
