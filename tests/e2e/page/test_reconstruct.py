"""The panel Reconstruct: photographs, their crops and what came back."""

import base64
import io
import re

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import FilePayload, expect

from tests.e2e.page.visits import Visit, car_file, pixels

TIMES = "\N{MULTIPLICATION SIGN}"


def test_a_photograph_and_its_reconstruction(visit: Visit) -> None:
    visit.open("reconstruct")
    visit.part("reconstruct", "file").set_input_files(car_file())
    expect(visit.part("reconstruct", "psnr")).to_have_text(re.compile(r"^\d\d\.\d dB$"))
    expect(visit.part("reconstruct", "original-size")).to_have_text(
        re.compile(f"^480 {TIMES} 320 pixels of car.jpg, .* kB$")
    )
    expect(visit.part("reconstruct", "copy-size")).to_have_text(f"48 {TIMES} 32 pixels")
    expect(visit.part("reconstruct", "latent-size")).to_have_text("32 numbers, 128 bytes")
    bars = visit.part("reconstruct", "bars").get_by_role("img")
    expect(bars).to_have_accessible_name(re.compile("^The 32 numbers as bars, from -"))
    visit.panel("reconstruct").get_by_role("button", name="Edit it").click()
    visit.panel("edit")
    visit.settle()
    expect(visit.part("edit", "undo")).to_be_disabled()
    assert visit.state() == "edit"


def mean_colour(url: str) -> NDArray[np.float64]:
    """Mean red, green and blue of the picture in a data URL."""
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
        return np.asarray(np.asarray(image.convert("RGB")).mean(axis=(0, 1)))


def flat_reconstruction(client: httpx.Client, colour: str) -> NDArray[np.float64]:
    """Mean colour of what the model makes of one colour in the shape of half a picture."""
    file = io.BytesIO()
    Image.new("RGB", (240, 320), colour).save(file, "PNG")
    answer = client.post("/reconstruct?format=json", files={"image": file.getvalue()})
    return mean_colour(answer.json()["images"][0])


def test_what_is_sent_is_the_crop(visit: Visit, client: httpx.Client) -> None:
    """Half dark, half light: the crop of one half is all light, and what comes back is as for that alone."""
    picture = Image.new("RGB", (480, 320), "black")
    picture.paste("white", (240, 0, 480, 320))
    file = io.BytesIO()
    picture.save(file, "PNG")
    visit.open("reconstruct")
    payload: FilePayload = {"name": "halves.png", "mimeType": "image/png", "buffer": file.getvalue()}
    visit.part("reconstruct", "file").set_input_files(payload)
    size = visit.part("reconstruct", "original-size")
    expect(size).to_contain_text(f"480 {TIMES} 320")
    box = visit.page.locator(".box").bounding_box()
    assert box is not None
    x, y = box["x"], box["y"]
    mouse = visit.page.mouse
    mouse.move(x + box["width"] - 10, y + box["height"] - 10)
    mouse.down()
    mouse.move(x + box["width"] / 2 - 10, y + box["height"] - 10, steps=4)
    mouse.up()
    expect(size).to_contain_text(f"240 {TIMES} 320")
    mouse.move(x + box["width"] / 4, y + box["height"] / 2)
    mouse.down()
    mouse.move(x + 2 * box["width"], y + box["height"] / 2, steps=4)
    mouse.up()
    visit.settle()
    expect(size).to_contain_text(f"240 {TIMES} 320")
    expect(visit.page.locator(".box")).to_have_accessible_name(re.compile("240 by 320 pixels from 240, 0"))
    shown = mean_colour(pixels(visit.part("reconstruct", "picture")))
    light, dark = (flat_reconstruction(client, colour) for colour in ("white", "black"))
    assert np.abs(shown - light).max() < 8 < np.abs(shown - dark).max()
    visit.panel("reconstruct").get_by_role("button", name="Whole picture").click()
    expect(size).to_contain_text(f"480 {TIMES} 320")


def test_the_crop_can_be_made_with_the_keyboard_alone(visit: Visit) -> None:
    visit.open("reconstruct")
    visit.part("reconstruct", "file").set_input_files(car_file(width=600, height=300))
    box, size = visit.page.locator(".box"), visit.part("reconstruct", "original-size")
    expect(size).to_contain_text(f"600 {TIMES} 300")
    visit.panel("reconstruct").get_by_role("button", name="Crop to fit").click()
    expect(size).to_contain_text(f"450 {TIMES} 300")
    box.focus()
    visit.page.keyboard.press("ArrowLeft")
    visit.page.keyboard.press("Shift+ArrowUp")
    expect(box).to_have_accessible_name(re.compile("^Crop box, 450 by 294 pixels from 63, 0"))
    expect(size).to_contain_text(f"450 {TIMES} 294")


def test_without_a_photograph_at_hand(visit: Visit) -> None:
    panel = visit.open("reconstruct")
    panel.get_by_role("button", name="Try a drawn car").click()
    expect(visit.part("reconstruct", "psnr")).to_contain_text("dB")
    panel.get_by_role("button", name="Interpolate from it").click()
    expect(visit.part("interpolate", "stops").get_by_role("button").first).to_have_accessible_name(
        "Car 1: Your photograph"
    )
