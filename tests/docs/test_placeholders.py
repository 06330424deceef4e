"""The gallery of placeholders, made as its user makes it, in a browser whose photographs do not come yet."""

import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, Route, expect

from app.images.arrays import ImageArray
from model_training.data.synthetic import draw_cars
from tests.docs.conftest import EXAMPLES, Stage
from tests.images import array_of, difference, file_of
from tests.performance.service import ROOT

SIZES = {"one.jpg": (480, 320), "the other.png": (300, 400)}


class Quiet(SimpleHTTPRequestHandler):
    """Sends files and says nothing."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def gallery(stage: Stage, tmp_path: Path) -> Iterator[str]:
    """The address of a page of two photographs, one of them upright by its EXIF orientation only."""
    cars = draw_cars(2, 480, 320, seed=7)
    (tmp_path / "one.jpg").write_bytes(file_of(Image.fromarray(cars[0]), "JPEG"))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.fromarray(cars[1]).resize((400, 300))
    (tmp_path / "the other.png").write_bytes(file_of(turned, exif=exif))
    (tmp_path / "notes.txt").write_text("not a photograph by its name")
    command = [
        sys.executable,
        str(EXAMPLES / "placeholders" / "gallery.py"),
        str(tmp_path),
        "--url",
        stage.service,
    ]
    subprocess.run(command, check=True, timeout=120)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def shown(page: Page, name: str) -> ImageArray:
    """What is seen of an image."""
    return array_of(page.get_by_alt_text(name, exact=True).screenshot())


def codes(gallery: str) -> list[str]:
    """The addresses of the placeholders."""
    found = re.findall(r"url\((\S+/c/[\w-]+\.webp)\)", httpx.get(f"{gallery}/index.html").text)
    assert [len(address.rpartition("/")[2]) <= 47 + 5 for address in found] == [
        True,
        True,
    ]  # 35 bytes, ".webp"
    return found


def test_a_place_shows_the_car_before_its_photograph_and_nothing_moves(page: Page, gallery: str) -> None:
    held: list[Route] = []
    page.route(re.compile(r"\.(jpg|png)$"), lambda route: held.append(route))
    page.goto(f"{gallery}/index.html", wait_until="commit")
    images = page.get_by_role("img")
    expect(images).to_have_count(2)
    page.wait_for_function(
        "performance.getEntriesByType('resource').filter(e => e.name.includes('/c/')).length === 2"
    )
    boxes = [images.nth(place).bounding_box() for place in range(2)]
    for (name, (width, height)), box, address in zip(SIZES.items(), boxes, codes(gallery), strict=True):
        assert box is not None
        assert box["width"] / box["height"] == pytest.approx(width / height, rel=0.01)
        picture = Image.fromarray(array_of(httpx.get(address).content))
        expected = picture.resize((round(box["width"]), round(box["height"])), Image.Resampling.BICUBIC)
        seen = Image.fromarray(shown(page, Path(name).stem)).resize(expected.size)
        assert difference(np.asarray(seen), np.asarray(expected)) < 6
    for route in held:
        route.continue_()
    page.wait_for_load_state("load")
    assert [images.nth(place).bounding_box() for place in range(2)] == boxes
    assert "<script" not in httpx.get(f"{gallery}/index.html").text


def test_two_images_in_a_cell_do_without_styles_in_the_page(page: Page, gallery: str, tmp_path: Path) -> None:
    manual = (ROOT / "docs" / "placeholders.md").read_text()
    (cell,) = re.findall(r"```html\n(<span.*?)```", manual, re.DOTALL)
    (style,) = re.findall(r"```css\n(.*?)```", manual, re.DOTALL)
    address = codes(gallery)[0]
    service = address.rpartition("/c/")[0]
    policy = f"default-src 'none'; style-src 'self'; img-src 'self' {service}"
    cell = cell.replace("https://cars.example/c/CODE.webp", address).replace("car-800.jpg", "one.jpg")
    head = f'<!doctype html><meta http-equiv="Content-Security-Policy" content="{policy}">'
    (tmp_path / "cell.html").write_text(f'{head}<link rel="stylesheet" href="cell.css">{cell}')
    (tmp_path / "cell.css").write_text(style)
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto(f"{gallery}/cell.html")
    placeholder, photograph = page.locator("img").all()
    assert placeholder.bounding_box() == photograph.bounding_box()
    assert placeholder.evaluate("image => image.naturalWidth") == 96
    assert [text for text in refused if "Content Security Policy" in text] == []


def test_a_file_that_is_no_photograph_is_named(stage: Stage, tmp_path: Path) -> None:
    shutil.copy(__file__, tmp_path / "broken.jpg")
    script = str(EXAMPLES / "placeholders" / "gallery.py")
    done = subprocess.run(
        [sys.executable, script, str(tmp_path), "--url", stage.service],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "broken.jpg" in done.stderr
    assert "Traceback" not in done.stderr
