"""The page of another origin that calls the service, in a real browser."""

import base64
from typing import Any

import httpx
import numpy as np
from PIL import Image
from playwright.sync_api import FilePayload, Page, expect

from model_training.data.synthetic import draw_cars
from tests.docs.conftest import Stage
from tests.images import array_of, file_of

FILES = [file_of(Image.fromarray(car), "JPEG", quality=92) for car in draw_cars(2, 300, 200, seed=7)]


def payloads(*files: bytes) -> list[FilePayload]:
    return [{"name": "car.jpg", "mimeType": "image/jpeg", "buffer": file} for file in files]


def ask(page: Page, origin: str, *files: bytes) -> None:
    page.goto(f"{origin}/front-end/index.html")
    page.get_by_label("Two photographs or more").set_input_files(payloads(*files))
    page.get_by_role("button", name="Go").click()


def test_a_slider_goes_through_the_frames(page: Page, stage: Stage, client: httpx.Client) -> None:
    ask(page, stage.pages, *FILES)
    position = page.get_by_label("Position")
    expect(position).to_be_visible()
    answer = client.post(
        "/interpolate?format=json&size=576",
        files=[("image", file) for file in FILES],
        data={"steps": "32"},
    )
    frames = answer.raise_for_status().json()["images"]
    image = page.get_by_role("img")
    for place in (0, 17, 31):
        position.fill(str(place))
        shown = image.get_attribute("src")
        assert shown is not None
        np.testing.assert_allclose(pixels(shown), pixels(frames[place]), atol=1)
    assert image.evaluate("image => image.naturalWidth") == 576
    assert position.get_attribute("max") == "31"


def pixels(url: str) -> Any:
    return array_of(base64.b64decode(url.partition(",")[2])).astype(int)


def test_what_is_wrong_is_said(page: Page, stage: Stage) -> None:
    ask(page, stage.pages, FILES[0], b"no picture")
    expect(page.get_by_role("status")).to_contain_text("image 2 of 2: not a picture")
    expect(page.get_by_label("Position")).to_be_hidden()


def test_an_origin_that_is_not_named_is_kept_out(page: Page, stage: Stage) -> None:
    ask(page, stage.pages.replace("127.0.0.1", "localhost"), *FILES)
    expect(page.get_by_role("status")).to_have_text(f"{stage.service} cannot be reached from this page.")
