"""The lines of the README and of the manual of the commands, pasted into a shell, a program and a browser."""

import base64
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image, ImageSequence
from playwright.sync_api import Page

from app.codes.codec import CodeCodec
from app.codes.wire import from_text
from app.commands.codec import open_codec
from app.images.decode import read_image
from app.images.quality import psnr
from app.model.default_model import default_model_dir
from app.model.manifest import read_manifest
from model_training.data.synthetic import draw_cars
from tests.docs.conftest import Stage
from tests.images import array_of, difference, file_of, opened
from tests.performance.service import ROOT

README = ROOT / "README.md"
WRITTEN = "localhost:8000"
ELSEWHERE = ("make serve", "make train")
"""First lines of blocks that other tests run, or that take what no test has: a container, an hour."""
PATIENCE = 300


def blocks(document: Path, language: str) -> list[str]:
    """The blocks of a language in a document."""
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def here(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: ARG001  it must run
    """A folder with photographs, and `car-vae` among the programs."""
    program = tmp_path / "bin" / "car-vae"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m app "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    folder = tmp_path / "photographs"
    folder.mkdir()
    for name, car in zip(("one", "other", "photo"), draw_cars(3, 480, 320, seed=7), strict=True):
        (folder / f"{name}.jpg").write_bytes(file_of(Image.fromarray(car), "JPEG"))
    return folder


def paste(lines: str, here: Path, stage: Stage) -> str:
    """What a shell prints that stops at the first line which fails."""
    lines = lines.replace(WRITTEN, stage.service.removeprefix("http://"))
    shell = ["bash", "-e", "-o", "pipefail", "-c", lines]
    done = subprocess.run(shell, cwd=here, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout


def frames(path: Path) -> int:
    """How many an animation has."""
    with Image.open(path) as animation:
        return len(list(ImageSequence.Iterator(animation)))


def test_the_readme_brings_a_photograph_back_from_a_shell(here: Path, stage: Stage) -> None:
    sh = blocks(README, "sh")
    pasted = [block for block in sh if not block.startswith(ELSEWHERE)]
    assert len(sh) - len(pasted) == len(ELSEWHERE)
    said = paste("".join(pasted), here, stage)
    (address,) = re.findall(r"^http://\S+/c/\S+\.webp$", said, re.MULTILINE)
    code = from_text(address.rpartition("/")[2].removesuffix(".webp"))
    assert 80 < len(code) <= 94
    assert (here / "car.car").stat().st_size <= 255
    car = read_image((here / "car.jpg").read_bytes(), 96, 64, 10**7)
    picture = httpx.get(address)
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/webp")
    back = read_image((here / "back.png").read_bytes(), 96, 64, 10**7)
    assert opened((here / "back.png").read_bytes()).size == (384, 256)
    from_94, from_255 = (psnr(car[None], one[None])[0] for one in (array_of(picture.content), back))
    assert from_94 > 25
    assert from_255 > from_94 - 1
    assert opened((here / "cars.png").read_bytes()).size[0] == 3 * 256
    assert frames(here / "morph.webp") == 24
    assert opened((here / "decoded.png").read_bytes()).size == (96, 64)


def test_the_manual_of_the_commands_does_what_it_says(here: Path, stage: Stage) -> None:
    said = paste(blocks(ROOT / "docs" / "command-line.md", "sh")[0], here, stage)
    assert len((here / "photo.car").read_bytes()) <= 94
    assert opened((here / "back.webp").read_bytes()).format == "WEBP"
    assert said.splitlines()[-1] == "readable  yes"
    for name in ("one", "other", "photo"):
        assert opened((here / "pictures" / f"{name}.png").read_bytes()).size == (384, 256)
    assert len((here / "codes.jsonl").read_text().splitlines()) == 3


def test_a_placeholder_goes_into_the_page_itself(here: Path, stage: Stage) -> None:
    code = paste("car-vae compress photo.jpg --bytes 35 --text", here, stage).strip()
    (line,) = blocks(ROOT / "docs" / "placeholders.md", "sh")
    said = paste(line.replace("CODE", code), here, stage)
    picture = base64.b64decode(said.strip().removeprefix("data:image/webp;base64,"), validate=True)
    served = httpx.get(f"{stage.service}/c/{code}.webp").content
    assert difference(array_of(picture), array_of(served)) < 3  # the service may decode in int8


def test_the_program_makes_an_animation(here: Path, stage: Stage) -> None:
    (script,) = blocks(README, "python")
    script = script.replace(WRITTEN, stage.service.removeprefix("http://"))
    subprocess.run([sys.executable, "-c", script], cwd=here, check=True, timeout=PATIENCE)
    assert frames(here / "morph.gif") == 24


def test_the_script_shows_the_car_between_two(page: Page, stage: Stage) -> None:
    (script,) = blocks(README, "js")
    page.goto(f"{stage.service}/health/live")
    page.set_content("<img>")
    page.evaluate(f"async () => {{ {script} }}")
    page.wait_for_function("document.querySelector('img').naturalWidth === 96")


@pytest.fixture(scope="module")
def figures() -> dict[str, object]:
    """The names of docs/figures.py."""
    return runpy.run_path(str(ROOT / "docs" / "figures.py"))


def test_tables_are_of_the_rates_that_were_measured(figures: dict[str, object]) -> None:
    tables, updated = figures["TABLES"], figures["updated"]
    assert callable(updated)
    assert isinstance(tables, dict)
    for document in tables:
        assert updated(document) == document.read_text(), "run: make docs"
    assert "**" in README.read_text().partition("<!-- rates -->")[2].partition("<!-- end of rates -->")[0]


def test_the_address_in_the_readme_is_of_a_car(figures: dict[str, object]) -> None:
    pattern = figures["ADDRESS"]
    assert isinstance(pattern, re.Pattern)
    (code,) = pattern.findall(README.read_text())
    folder = default_model_dir()
    codec: CodeCodec = open_codec(folder, read_manifest(folder))
    assert np.isfinite(codec.latent(codec.unpack(from_text(code)))).all()


def test_the_figure_of_codes_has_every_car(figures: dict[str, object]) -> None:
    draw = figures["codes_figure"]
    assert callable(draw)
    figure, code = draw()
    with Image.open(ROOT / "docs" / "codes.jpg") as shown:
        assert shown.size == figure.size
    assert len(from_text(code)) <= 94
