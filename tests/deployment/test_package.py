"""The package: a wheel with one model that serves from an empty folder, and says that it is typed."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from app.model.default_model import DEFAULT_MODEL, default_model_dir
from model_training.data.synthetic import draw_cars
from tests.deployment.test_images import PYPROJECT
from tests.e2e.conftest import ROOT, serving
from tests.images import array_of, file_of

VERSION = PYPROJECT["project"]["version"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution as a packager would."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    assert path.name == f"car_vae-{VERSION}-py3-none-any.whl"
    return path


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """car-vae of an environment of its own, which sees this one's packages behind its own."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, symlinks=True)
    pip = [sys.executable, "-m", "pip", f"--python={folder / 'bin' / 'python'}", "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True, timeout=300)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "car-vae"


def test_it_holds_the_default_model_and_no_other(wheel: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if "/models/" in name}
    assert packed == {f"app/models/{DEFAULT_MODEL}/{path.name}" for path in default_model_dir().iterdir()}


def test_it_holds_the_packages_and_nothing_beside_them(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in packed} == {
        "app",
        "model_training",
        f"car_vae-{VERSION}.dist-info",
    }
    wanted = {
        str(path.relative_to(ROOT))
        for package in ("app", "model_training")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"app/py.typed", "model_training/py.typed", "app/web/static/index.html"} < wanted
    assert wanted <= packed


def test_it_requires_one_onnx_runtime(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        lines = archive.read(f"car_vae-{VERSION}.dist-info/METADATA").decode().splitlines()
    runtimes = [line for line in lines if line.startswith("Requires-Dist: onnxruntime")]
    assert len(runtimes) == 1
    assert "extra" not in runtimes[0]
    assert f"License-Expression: {PYPROJECT['project']['license']}" in lines


def test_it_says_its_version(program: Path, tmp_path: Path) -> None:
    assert subprocess.check_output([program, "--version"], cwd=tmp_path, text=True) == f"car-vae {VERSION}\n"


def test_it_compresses_with_the_model_inside(program: Path, tmp_path: Path) -> None:
    (tmp_path / "car.png").write_bytes(file_of(Image.fromarray(draw_cars(1, 300, 200, seed=7)[0])))
    compressed = subprocess.check_output([program, "compress", "car.png", "--text"], cwd=tmp_path, text=True)
    with_this = [sys.executable, "-m", "app", "compress", str(tmp_path / "car.png"), "--text"]
    assert compressed == subprocess.check_output(with_this, cwd=ROOT, text=True)
    picture = subprocess.check_output([program, "decompress", compressed.strip()], cwd=tmp_path)
    assert array_of(picture).shape == (64, 96, 3)


def test_it_serves_from_an_empty_folder(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in os.environ:
        if name.startswith("CAR_VAE_"):
            monkeypatch.delenv(name)
    empty = tmp_path / "empty"
    empty.mkdir()
    # Workers start by running the program's own file again.
    installed = serving(None, tmp_path / "log", command=[str(program), "serve"], folder=empty, workers="2")
    with installed as client, serving(default_model_dir(), tmp_path / "other-log") as checkout:
        answer = client.get("/sample?seed=3")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
        assert answer.headers["x-model"] == DEFAULT_MODEL
        assert answer.content == checkout.get("/sample?seed=3").content
        assert client.get("/").text == checkout.get("/").text
        assert client.get("/openapi.json").json()["info"]["version"] == VERSION
    assert list(empty.iterdir()) == []
