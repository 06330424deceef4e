"""The web page in a real browser, on a freshly trained model: each panel, each way to fail, for everyone."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model_training.data.synthetic import draw_cars
from tests.e2e.conftest import serving

pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    FilePayload,
    Locator,
    Page,
    Request,
    Route,
    ViewportSize,
    expect,
    sync_playwright,
)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
TIMES = "\N{MULTIPLICATION SIGN}"
WINDOW: ViewportSize = {"width": 1100, "height": 800}
DESKTOP: ViewportSize = {"width": 1440, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
PANELS = ("interpolate", "sample", "edit", "reconstruct")
PATIENCE = 30_000
"""Milliseconds; a machine may be busy with other things."""
KEY = "a key of twenty signs"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


def car_file(seed: int = 1, width: int = 480, height: int = 320, name: str = "car.jpg") -> FilePayload:
    """A drawn car as a JPEG upload."""
    file = io.BytesIO()
    Image.fromarray(draw_cars(1, width, height, seed)[0]).save(file, "JPEG", quality=92)
    return {"name": name, "mimeType": "image/jpeg", "buffer": file.getvalue()}


def tiff_file() -> FilePayload:
    """A drawn car in a file that browsers cannot show, and so send as it is."""
    file = io.BytesIO()
    Image.fromarray(draw_cars(1, 96, 64, 4)[0]).save(file, "TIFF")
    return {"name": "car.tiff", "mimeType": "image/tiff", "buffer": file.getvalue()}


@dataclass
class Visit:
    """One open page, and what must not happen on it unseen."""

    page: Page
    root: str
    complaints: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def open(self, fragment: str = "") -> Locator:
        """Show a panel afresh; answers the panel when it has settled."""
        if self.page.url != "about:blank":
            self.page.goto("about:blank")
        self.page.goto(f"{self.root}/#{fragment}", wait_until="commit")
        self.settle()
        return self.panel(fragment.partition("?")[0] or PANELS[0])

    def settle(self) -> None:
        """Wait until everything that was asked for is shown."""
        self.page.wait_for_selector("html:not([data-busy])", state="attached")

    def panel(self, name: str) -> Locator:
        panel = self.page.locator(f"#panel-{name}")
        expect(panel).to_be_visible()
        return panel

    def part(self, panel: str, name: str) -> Locator:
        return self.page.locator(f"#panel-{panel} [data-part={name}]")

    def asked(self, path: str) -> int:
        """How many requests there have been to a path."""
        return sum(urlsplit(request.url).path == path for request in self.requests)

    def state(self) -> str:
        """The fragment of the address, without what comes before it."""
        return urlsplit(self.page.url).fragment

    def expect_address(self, pattern: str) -> None:
        expect(self.page).to_have_url(re.compile(f"#{pattern}$"))

    def note_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def note_request(self, request: Request) -> None:
        self.requests.append(request)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


Open = Callable[..., AbstractContextManager[Visit]]


def watched(page: Page, root: str, forgiven: str = "") -> Iterator[Visit]:
    """Yields a visit; afterwards, nothing may have come from elsewhere, and nobody may have complained."""
    visit = Visit(page, root)
    page.set_default_timeout(PATIENCE)
    page.on("console", visit.note_console)
    page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    page.on("request", visit.note_request)
    yield visit
    addresses = [urlsplit(request.url) for request in visit.requests]
    elsewhere = [address for address in addresses if address.netloc not in ("", urlsplit(root).netloc)]
    assert elsewhere == []
    assert [text for text in visit.complaints if not (forgiven and re.search(forgiven, text))] == []
    page.close()


@pytest.fixture
def visiting(browser: Browser, client: httpx.Client) -> Open:
    """visiting(root, forgiven, **options) opens a page in a browser of its own kind.

    It takes the address of a service, a pattern of complaints that are to be expected, and options of
    Playwright's new_context.
    """

    @contextmanager
    def visit(root: str = "", forgiven: str = "", **options: Any) -> Iterator[Visit]:
        settings: dict[str, Any] = {"viewport": WINDOW, "reduced_motion": "reduce"}
        with browser.new_context(**settings | options) as context:
            yield from watched(context.new_page(), root or str(client.base_url).rstrip("/"), forgiven)

    return visit


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """What most tests share: its cache makes every visit but the first one quick."""
    with browser.new_context(viewport=WINDOW, reduced_motion="reduce") as context:
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        yield context


@pytest.fixture
def visit(context: BrowserContext, client: httpx.Client) -> Iterator[Visit]:
    root = str(client.base_url).rstrip("/")
    for visit in watched(context.new_page(), root):
        yield visit
        visit.page.evaluate("() => localStorage.clear()")


@pytest.fixture(scope="module")
def strict_service(trained_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service that asks for a key, and is too busy for anything as large as a photograph."""
    log = tmp_path_factory.mktemp("strict") / "service.log"
    with serving(trained_model, log, api_keys=KEY, max_held_bytes="4096") as client:
        yield str(client.base_url).rstrip("/")


def pixels(canvas: Locator) -> str:
    """What a canvas shows, as a data URL."""
    return str(canvas.evaluate("canvas => canvas.toDataURL()"))


def expect_other_pixels(canvas: Locator, than: str) -> None:
    """Wait until a canvas shows something else."""
    handle = canvas.element_handle()
    for _ in range(200):
        if pixels(canvas) != than:
            return
        handle.evaluate("() => new Promise(done => requestAnimationFrame(done))")
    raise AssertionError("the picture has stayed as it was")


def set_slider(slider: Locator, *values: float) -> None:
    """Move a slider as a finger does, without a rest: it is told while it moves, and when it is let go."""
    slider.evaluate(
        """(slider, values) => {
            for (const value of values) {
                slider.value = value;
                slider.dispatchEvent(new Event("input", { bubbles: true }));
            }
            slider.dispatchEvent(new Event("change", { bubbles: true }));
        }""",
        values,
    )


# interpolate


def test_the_slider_moves_from_car_to_car_without_asking(visit: Visit) -> None:
    visit.open("interpolate?cars=3-0,8-0")
    picture, slider = visit.part("interpolate", "picture"), visit.part("interpolate", "position")
    asked = visit.asked("/interpolate.webp")
    seen = set()
    for place in (0, 0.01, 0.5, 0.99, 1):
        set_slider(slider, place)
        seen.add(pixels(picture))
    assert len(seen) == 5, "five places are five pictures at once"
    assert visit.asked("/interpolate.webp") == asked
    expect(visit.part("interpolate", "lambda")).to_have_text("λ = 1.00")
    assert slider.get_attribute("aria-valuetext") == "100 % of the way from car 1 to car 2"
    visit.expect_address("interpolate.cars=3-0,8-0&at=1")


def test_a_finger_on_the_slider_is_followed(visit: Visit) -> None:
    visit.open("interpolate?cars=3-0,8-0")
    slider = visit.part("interpolate", "position")
    box = slider.bounding_box()
    assert box is not None
    visit.page.mouse.move(box["x"] + 10, box["y"] + box["height"] / 2)
    visit.page.mouse.down()
    visit.page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + box["height"] / 2, steps=5)
    assert 0.7 < float(slider.input_value()) < 0.8
    visit.page.mouse.up()


def test_a_path_through_photographs_and_samples(visit: Visit) -> None:
    panel = visit.open("interpolate?cars=3-0,8-0")
    visit.part("interpolate", "photos").set_input_files([car_file(1), car_file(2, 200, 300)])
    stops = visit.part("interpolate", "stops").locator("button")
    expect(stops).to_have_count(4)
    expect(visit.part("interpolate", "private")).to_be_visible()
    visit.expect_address("interpolate")  # without photographs
    panel.get_by_role("button", name="Add a sample").click()
    expect(stops).to_have_count(5)
    before = stops.nth(0).locator("img").get_attribute("src")
    stops.nth(0).click()
    visit.part("interpolate", "photo").set_input_files(car_file(3))
    expect(stops.nth(0).locator("img")).not_to_have_attribute("src", before or "")
    for left in (4, 3, 2):
        panel.get_by_role("button", name="Remove").click()
        expect(stops).to_have_count(left)
    expect(panel.get_by_role("button", name="Remove")).to_be_disabled()


def test_the_method_is_another_path(visit: Visit) -> None:
    panel = visit.open("interpolate?cars=3-0,8-0&at=0.5")
    picture = visit.part("interpolate", "picture")
    linear = pixels(picture)
    panel.get_by_label("Spherical").check()
    expect_other_pixels(picture, linear)
    visit.expect_address(".*method=spherical&at=0.5")
    spherical = pixels(picture)
    visit.page.reload()
    visit.settle()
    assert pixels(picture) == spherical, "the address holds all that is seen"


def test_playing_and_pausing(visit: Visit) -> None:
    panel = visit.open("interpolate?cars=3-0,8-0")
    slider = visit.part("interpolate", "position")
    panel.get_by_role("button", name="Play").click()
    visit.page.wait_for_timeout(0)
    expect(slider).not_to_have_value("0")
    panel.get_by_role("button", name="Pause").click()
    stopped = slider.input_value()
    visit.page.evaluate("() => new Promise(done => setTimeout(done, 100))")
    assert slider.input_value() == stopped
    expect(panel.get_by_role("button", name="Play")).to_be_visible()


def test_the_first_visit_plays_once_unless_motion_is_unwelcome(visiting: Open) -> None:
    with visiting(reduced_motion="no-preference") as visit:
        visit.open()
        expect(visit.part("interpolate", "position")).to_have_value("1")
        expect(visit.part("interpolate", "play")).to_have_text("Play")
    with visiting() as visit:
        visit.open()
        expect(visit.part("interpolate", "position")).to_have_value("0")


def test_a_path_can_be_saved_in_each_format(visit: Visit) -> None:
    panel = visit.open("interpolate?cars=3-0,8-0,5-0")
    with visit.page.expect_download() as gif:
        panel.get_by_role("button", name="Download GIF").click()
    with Image.open(gif.value.path()) as animation:
        assert animation.format == "GIF"
        assert animation.size == (288, 192)
        assert animation.n_frames == 33  # type: ignore[attr-defined]
    with visit.page.expect_download() as strip:
        panel.get_by_role("button", name="Download filmstrip").click()
    with Image.open(strip.value.path()) as film:
        assert film.format == "PNG"
        assert film.size == (13 * 192, 128)


# sample


def test_a_seed_gives_its_wall(visit: Visit) -> None:
    visit.open("sample?seed=7")
    tiles = visit.part("sample", "wall").locator("img")
    expect(tiles).to_have_count(24)
    first = [tile.get_attribute("src") for tile in tiles.all()]
    assert len(set(first)) == 24
    visit.part("sample", "seed").fill("8")
    expect(tiles.nth(0)).not_to_have_attribute("src", first[0] or "")
    visit.expect_address("sample.seed=8")
    visit.part("sample", "seed").fill("7")
    expect(tiles.nth(0)).to_have_attribute("src", first[0] or "")


def test_temperature_and_prior(visit: Visit) -> None:
    panel = visit.open("sample?seed=7")
    tile = visit.part("sample", "wall").locator("img").first
    seen = [tile.get_attribute("src") or ""]
    set_slider(visit.part("sample", "temperature"), 0.25)
    expect(tile).not_to_have_attribute("src", seen[0])
    visit.settle()
    seen.append(tile.get_attribute("src") or "")
    panel.get_by_label("Standard").check()
    expect(tile).not_to_have_attribute("src", seen[1])
    visit.expect_address("sample.seed=7&temperature=0.25&prior=standard")
    shown = tile.get_attribute("src") or ""
    visit.page.reload()
    expect(tile).to_have_attribute("src", shown)
    panel.get_by_role("button", name="Draw new cars").click()
    expect(tile).not_to_have_attribute("src", shown)


def test_an_odd_address_does_no_harm(visit: Visit) -> None:
    for fragment in (
        "sample?seed=-1",
        "sample?seed=x&temperature=99&prior=%3Cb%3E",
        "nowhere?%ff",
        "interpolate?cars=3-0,8-99,%3Cb%3E,1-0-9&at=7",
        "edit?car=x&by=a,b",
        "edit?car=3-0&by=99,x,,-1",
    ):
        visit.page.goto("about:blank")
        visit.page.goto(f"{visit.root}/#{fragment}")
        visit.settle()
        expect(visit.page.get_by_role("heading", level=1)).to_be_visible()
        expect(visit.page.get_by_role("alert")).to_have_count(0)


def test_a_sample_can_be_kept_and_given_away(visit: Visit) -> None:
    visit.open("sample?seed=7")
    wall, dialog = visit.part("sample", "wall"), visit.page.locator("dialog#car")
    kept = visit.page.locator("#garage img")
    for name in ("Car 2 of seed 7", "Car 5 of seed 7"):
        wall.get_by_role("button", name=name, exact=True).click()
        expect(dialog.get_by_role("heading")).to_have_text(name)
        dialog.get_by_role("button", name="Keep it").click()
    expect(kept).to_have_count(2)
    visit.page.reload()
    expect(kept).to_have_count(2)
    visit.page.get_by_role("button", name="Interpolate through all").click()
    visit.expect_address("interpolate.cars=7-1,7-4")
    kept.nth(0).click()
    dialog.get_by_role("button", name="Keep it no longer").click()
    expect(kept).to_have_count(1)


def test_a_sample_can_begin_a_path_or_an_edit(visit: Visit) -> None:
    visit.open("sample?seed=7")
    dialog = visit.page.locator("dialog#car")
    visit.page.get_by_role("button", name="Car 3 of seed 7", exact=True).click()
    dialog.get_by_role("button", name="Interpolate from it").click()
    visit.expect_address("interpolate.cars=7-2,.*")
    visit.page.go_back()
    visit.panel("sample")
    visit.page.get_by_role("button", name="Car 4 of seed 7", exact=True).click()
    expect(dialog).to_be_visible()
    dialog.dispatch_event("close")  # of an earlier closing, late
    dialog.get_by_role("button", name="Edit it").click()
    visit.expect_address("edit.car=7-3")
    expect(visit.part("edit", "before")).to_have_attribute("src", re.compile("^data:image/png"))


# edit


def test_directions_move_the_car_and_can_be_taken_back(visit: Visit) -> None:
    panel = visit.open("edit?car=3-0")
    picture = visit.part("edit", "picture")
    sliders = panel.get_by_role("slider")
    expect(sliders).to_have_count(8)
    plain = pixels(picture)
    set_slider(sliders.nth(0), 2)
    expect_other_pixels(picture, plain)
    once = pixels(picture)
    set_slider(sliders.nth(1), -3)
    expect_other_pixels(picture, once)
    visit.expect_address("edit.car=3-0&by=2,-3,0,0,0,0,0,0")
    panel.get_by_role("button", name="Undo").click()
    visit.settle()
    assert pixels(picture) == once
    panel.get_by_role("button", name="Reset").click()
    visit.settle()
    assert pixels(picture) == plain
    panel.get_by_role("button", name="Undo").click()
    panel.get_by_role("button", name="Undo").click()
    expect(panel.get_by_role("button", name="Undo")).to_be_disabled()
    visit.expect_address("edit.car=3-0")
    visit.open("edit?car=3-0&by=2")
    assert pixels(picture) == once


def test_a_slider_asks_when_it_rests_and_the_last_place_wins(visit: Visit) -> None:
    visit.open("edit?car=3-0")
    held: list[Route] = []
    visit.page.route("**/decode.webp", lambda route: route.continue_() if held else held.append(route))
    slider = visit.panel("edit").get_by_role("slider").first
    asked = visit.asked("/decode.webp")
    with visit.page.expect_request("**/decode.webp") as first:
        set_slider(slider, 0.5, 1, 1.5, 2)
    assert visit.asked("/decode.webp") == asked + 1
    set_slider(slider, 2.5)
    with visit.page.expect_request("**/decode.webp") as last:
        visit.page.wait_for_timeout(300)
        held[0].continue_()
    visit.settle()
    assert visit.asked("/decode.webp") == asked + 2
    assert first.value.post_data != last.value.post_data
    shown = pixels(visit.part("edit", "picture"))
    visit.open("edit?car=3-0&by=2.5")
    assert pixels(visit.part("edit", "picture")) == shown


def test_a_temperature_asks_when_it_rests(visit: Visit) -> None:
    visit.open("sample?seed=7")
    asked = visit.asked("/sample.webp")
    with visit.page.expect_request("**/sample.webp?*") as last:
        set_slider(visit.part("sample", "temperature"), *(tenths / 10 for tenths in range(10)))
    visit.settle()
    assert visit.asked("/sample.webp") == asked + 1
    assert last.value.url.endswith("temperature=0.9")


def test_an_edited_car_can_be_compared_and_kept(visit: Visit) -> None:
    panel = visit.open("edit?car=3-0&by=2")
    panel.get_by_role("button", name="Keep it").click()
    expect(visit.page.locator("#garage img")).to_have_attribute("alt", "Car 1 of seed 3, edited")
    panel.get_by_role("button", name="Interpolate from before to after").click()
    stops = visit.part("interpolate", "stops").get_by_role("button")
    expect(stops).to_have_count(2)
    expect(stops.nth(1)).to_have_accessible_name("Car 2: Car 1 of seed 3, edited")


# reconstruct


def test_a_photograph_and_its_reconstruction(visit: Visit) -> None:
    visit.open("reconstruct")
    visit.part("reconstruct", "file").set_input_files(car_file())
    expect(visit.part("reconstruct", "psnr")).to_have_text(re.compile(r"^\d\d\.\d dB$"))
    expect(visit.part("reconstruct", "original-size")).to_have_text(
        re.compile(f"^480 {TIMES} 320 pixels, .* kB sent")
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


def test_a_photograph_is_dropped_or_pasted_anywhere(visit: Visit) -> None:
    for event in ("drop", "paste"):
        visit.open("sample?seed=7")
        give(visit, event)
        expect(visit.panel("reconstruct").get_by_role("heading", name="Reconstruction")).to_be_visible()
        expect(visit.part("reconstruct", "psnr")).to_contain_text("dB")


def give(visit: Visit, event: str) -> None:
    """Drop or paste a photograph, as the browser tells the page of it."""
    visit.page.evaluate(
        """([kind, bytes]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "car.jpg", { type: "image/jpeg" }));
            const event = kind === "drop"
                ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
                : new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true });
            document.body.dispatchEvent(event);
        }""",
        [event, list(car_file()["buffer"])],
    )


def test_a_picture_only_the_service_can_read(visit: Visit) -> None:
    visit.open("reconstruct")
    visit.part("reconstruct", "file").set_input_files(tiff_file())
    expect(visit.part("reconstruct", "crop")).to_contain_text("cannot show this kind of picture")
    expect(visit.part("reconstruct", "psnr")).to_contain_text("dB")


def test_without_a_photograph_at_hand(visit: Visit) -> None:
    panel = visit.open("reconstruct")
    panel.get_by_role("button", name="Try a drawn car").click()
    expect(visit.part("reconstruct", "psnr")).to_contain_text("dB")
    panel.get_by_role("button", name="Interpolate from it").click()
    expect(visit.part("interpolate", "stops").get_by_role("button").first).to_have_accessible_name(
        "Car 1: Your photograph"
    )


# when things go wrong

REFUSED = r"Failed to load resource: the server responded with a status of "


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (car_file()["buffer"][:400], 400, "cannot be read: it is damaged or incomplete"),
        (b"no picture at all", 415, "not a kind of picture the service reads. JPEG, PNG"),
    ],
)
def test_a_bad_picture_is_explained(visiting: Open, content: bytes, status: int, words: str) -> None:
    with visiting(forgiven=f"{REFUSED}{status}") as visit:
        visit.open("reconstruct")
        payload: FilePayload = {"name": "car.jpg", "mimeType": "image/jpeg", "buffer": content}
        visit.part("reconstruct", "file").set_input_files(payload)
        alert = visit.panel("reconstruct").get_by_role("alert")
        expect(alert).to_contain_text(words)
        visit.part("reconstruct", "file").set_input_files(car_file())
        expect(visit.part("reconstruct", "psnr")).to_contain_text("dB")
        expect(alert).to_have_count(0)


def test_a_busy_service_is_asked_again_when_it_says(visiting: Open) -> None:
    with visiting(forgiven=f"{REFUSED}429") as visit:

        def refuse(route: Route) -> None:
            route.fulfill(status=429, headers={"Retry-After": "1"}, json={"detail": "the queue is full"})

        visit.page.route("**/sample.webp?*", refuse, times=1)
        visit.page.goto(f"{visit.root}/#sample?seed=7")
        expect(visit.page.locator("#notice")).to_contain_text("The service is busy. Trying again in")
        expect(visit.part("sample", "wall").locator("img")).to_have_count(24)
        assert visit.asked("/sample.webp") == 2


def test_a_lost_service_is_explained(visiting: Open) -> None:
    with visiting(forgiven="ERR_FAILED") as visit:
        visit.open("sample?seed=7")
        visit.page.route("**/sample.webp?*", lambda route: route.abort())
        visit.panel("sample").get_by_role("button", name="Draw new cars").click()
        expect(visit.panel("sample").get_by_role("alert")).to_contain_text("cannot be reached")


def test_a_key_is_asked_for_and_a_full_service_gives_up(visiting: Open, strict_service: str) -> None:
    with visiting(strict_service, forgiven=f"{REFUSED}(401|429)") as visit:
        visit.page.goto(f"{visit.root}/#sample?seed=7")
        dialog, tiles = visit.page.locator("dialog#key"), visit.part("sample", "wall").locator("img")
        expect(dialog).to_be_visible()
        dialog.get_by_label("API key").fill("a wrong one")
        visit.page.keyboard.press("Enter")
        expect(dialog).to_contain_text("The key that was sent is not known")
        expect(tiles).to_have_count(0)
        dialog.get_by_label("API key").fill(KEY)
        dialog.get_by_role("button", name="Use it").click()
        expect(tiles).to_have_count(24)
        visit.page.get_by_role("link", name="Reconstruct").click()
        visit.part("reconstruct", "file").set_input_files(tiff_file())
        expect(visit.page.locator("#notice")).to_contain_text("The service is busy")
        visit.page.get_by_text("The request behind this").locator("visible=true").click()
        code = visit.panel("reconstruct").locator("pre")
        expect(code).to_contain_text("$CAR_VAE_KEY")
        assert KEY not in visit.page.content()
        alert = visit.panel("reconstruct").get_by_role("alert")
        expect(alert).to_contain_text("very busy")
        visit.page.get_by_role("button", name="Forget the key").click()
        visit.page.get_by_role("link", name="Sample").click()
        visit.panel("sample").get_by_role("button", name="Draw new cars").click()
        expect(dialog).to_be_visible()
        visit.page.keyboard.press("Escape")
        expect(visit.panel("sample").get_by_role("alert")).to_contain_text("needs an API key")


# the request as code


def copied(visit: Visit, panel: str, language: str) -> str:
    """The code that Copy puts on the clipboard."""
    details = visit.page.locator(f"#panel-{panel} details")
    if details.get_attribute("open") is None:
        details.locator("summary").click()
    details.get_by_label(language, exact=True).check()
    details.get_by_role("button", name="Copy").click()
    expect(visit.page.locator("#notice")).to_have_text(f"Copied for {language}.")
    return str(visit.page.evaluate("() => navigator.clipboard.readText()"))


def run(language: str, code: str, folder: Path, page: Page) -> Any:
    """What the code gets: the content of JSON, the size of a picture."""
    picture = folder / "cars.webp"
    is_picture = picture.name in code or ".blob()" in code
    if language == "JavaScript":
        content = "[(await createImageBitmap(content)).width, (await createImageBitmap(content)).height]"
        expression = f"(async () => {{ {code}\nreturn {content if is_picture else 'content'}; }})()"
        session = page.context.new_cdp_session(page)
        options = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        found = session.send("Runtime.evaluate", options)["result"]["value"]
        return tuple(found) if is_picture else found
    if language == "Python":
        shown = "" if is_picture else "\nimport json\nprint(json.dumps(content))"
        command = [sys.executable, "-c", code + shown]
    else:
        command = ["bash", "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    if not is_picture:
        return json.loads(done.stdout)
    with Image.open(picture) as image:
        size = image.size
    picture.unlink()
    return size


def test_copied_code_makes_the_request(visit: Visit, tmp_path: Path) -> None:
    languages = ["Python", "JavaScript"] + (["curl"] if shutil.which("curl") else [])
    visit.open("edit?car=3-0&by=1")
    for language in languages:
        code = copied(visit, "edit", language)
        shown = visit.page.locator("#panel-edit pre").text_content() or ""
        assert "… 29 more" in shown
        assert "more" not in code
        assert run(language, code, tmp_path, visit.page) == (48, 32)
    visit.open("interpolate?cars=3-0,8-0&method=spherical")
    for language in languages:
        code = copied(visit, "interpolate", language)
        assert run(language, code, tmp_path, visit.page) == (33 * 48, 32)
    visit.open("sample?seed=7")
    for language in languages:
        code = copied(visit, "sample", language)
        assert run(language, code, tmp_path, visit.page) == (5 * 48, 5 * 32)
    (tmp_path / "car.jpg").write_bytes(car_file()["buffer"])
    visit.open("reconstruct")
    visit.part("reconstruct", "file").set_input_files(car_file())
    expect(visit.part("reconstruct", "psnr")).to_contain_text("dB")
    for language in set(languages) - {"JavaScript"}:
        code = copied(visit, "reconstruct", language)
        assert run(language, code, tmp_path, visit.page)["psnr"][0] > 10


# for everyone


def test_everything_by_keyboard(visit: Visit) -> None:
    visit.open("interpolate?cars=3-0,8-0")
    press = visit.page.keyboard.press
    focused = visit.page.locator(":focus")

    def tab_to(role: Any, name: str) -> None:
        target = visit.page.get_by_role(role, name=name, exact=True).locator("visible=true")
        for _ in range(60):
            press("Tab")
            if target.evaluate("element => element === document.activeElement"):
                return
        raise AssertionError(f"the {role} {name} is not reached with Tab")

    press("Tab")
    expect(focused).to_have_text("Skip to the content")
    tab_to("slider", "Place on the path, lambda")
    press("ArrowRight")
    press("End")
    expect(visit.part("interpolate", "lambda")).to_have_text("λ = 1.00")
    tab_to("radio", "Linear")
    press("ArrowRight")
    visit.expect_address(".*method=spherical.*")
    visit.page.locator(".brand").focus()
    tab_to("link", "Sample")
    press("Enter")
    expect(focused).to_have_text("Cars that do not exist")
    visit.settle()
    seed = visit.part("sample", "seed").input_value()
    tab_to("button", f"Car 1 of seed {seed}")
    press("Enter")
    expect(visit.page.locator("dialog#car")).to_be_visible()
    press("Escape")
    expect(focused).to_have_accessible_name(f"Car 1 of seed {seed}")
    press("Enter")
    tab_to("button", "Edit it")
    press("Enter")
    visit.panel("edit")
    visit.settle()
    plain = pixels(visit.part("edit", "picture"))
    visit.panel("edit").get_by_role("slider").first.focus()
    press("End")
    expect_other_pixels(visit.part("edit", "picture"), plain)
    visit.page.locator(".brand").focus()
    tab_to("button", "Undo")
    press("Enter")
    visit.expect_address(r"edit\?car=\d+-0")


def test_the_page_works_on_a_phone(visiting: Open) -> None:
    with visiting(viewport=PHONE, is_mobile=True, has_touch=True, device_scale_factor=2) as visit:
        visit.open("interpolate?cars=3-0,8-0,5-0,6-0,7-0,9-0")
        for name in PANELS:
            visit.page.get_by_role("link", name=name.capitalize()).tap()
            panel = visit.panel(name)
            visit.settle()
            if name == "reconstruct":
                visit.part("reconstruct", "file").set_input_files(car_file())
                expect(visit.part("reconstruct", "psnr")).to_contain_text("dB")
                expect(panel.get_by_text("Take one")).to_be_visible()
            panel.get_by_text("The request behind this").tap()
            wide = visit.page.evaluate("() => document.documentElement.scrollWidth")
            assert wide == PHONE["width"], f"{name} is wider than the screen"
            for control in panel.locator("button, .button, input[type=range], summary").all():
                box = control.bounding_box() if control.is_visible() else None
                assert box is None or (box["height"] >= 24 and box["width"] >= 24)
        tabs = visit.page.get_by_role("navigation", name="Panels").bounding_box()
        assert tabs is not None
        assert tabs["y"] + tabs["height"] == pytest.approx(PHONE["height"], abs=1), (
            "within reach of the thumb"
        )


def test_the_theme_is_kept(visit: Visit) -> None:
    visit.open("sample?seed=7")
    ground = "() => getComputedStyle(document.body).backgroundColor"
    light = visit.page.evaluate(ground)
    visit.page.get_by_role("button", name="Dark colours").click()
    dark = visit.page.evaluate(ground)
    assert dark != light
    visit.page.reload()
    assert visit.page.evaluate(ground) == dark
    expect(visit.page.get_by_role("button", name="Dark colours", pressed=True)).to_be_visible()


def test_a_second_visit_loads_nothing_twice(visit: Visit) -> None:
    visit.open("sample?seed=7")
    transferred = """() => performance.getEntriesByType("resource")
        .filter(({ name }) => name.includes("/static/")).map(({ transferSize }) => transferSize)"""
    visit.open("sample?seed=7")
    sizes = visit.page.evaluate(transferred)
    assert len(sizes) > 15
    assert set(sizes) == {0}


def test_the_policy_holds_against_injected_code(visiting: Open) -> None:
    with visiting(forgiven="Content Security Policy|Trusted(HTML|Script)") as visit:
        visit.open("sample?seed=7")
        ran = visit.page.evaluate(
            """async () => {
                const script = document.createElement("script");
                try { script.text = "window.injected = true"; document.body.append(script); } catch {}
                const image = "<img src=x onerror='injected = 1'>";
                try { document.body.insertAdjacentHTML("beforeend", image); } catch {}
                const sent = await fetch("http://127.0.0.1:9/").then(() => true, () => false);
                return [window.injected ?? false, sent];
            }"""
        )
        assert ran == [False, False]
        visit.requests.clear()


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed: npm install --prefix tests/e2e")
@pytest.mark.parametrize(("scheme", "viewport"), [("light", DESKTOP), ("dark", PHONE)], ids=["light", "dark"])
def test_nothing_serious_for_axe(visiting: Open, scheme: str, viewport: ViewportSize) -> None:
    with visiting(color_scheme=scheme, viewport=viewport) as visit:
        visit.open("interpolate?cars=3-0,8-0")
        session = visit.page.context.new_cdp_session(visit.page)
        session.send("Runtime.evaluate", {"expression": AXE.read_text()})

        def serious() -> list[str]:
            result = visit.page.evaluate("async () => (await axe.run()).violations")
            return [
                f"{fault['id']}: {node['html']}"
                for fault in result
                if fault["impact"] in ("serious", "critical")
                for node in fault["nodes"]
            ]

        for name in PANELS:
            visit.page.get_by_role("link", name=name.capitalize()).click()
            visit.panel(name)
            if name == "reconstruct":
                visit.part("reconstruct", "file").set_input_files(car_file())
                expect(visit.part("reconstruct", "psnr")).to_contain_text("dB")
                visit.panel(name).get_by_role("button", name="Keep it").click()
            visit.settle()
            visit.page.locator(f"#panel-{name} summary").click()
            assert serious() == [], name
        visit.page.locator("#garage button").first.click()
        expect(visit.page.locator("dialog#car")).to_be_visible()
        assert serious() == [], "dialog"


# nothing fails silently


def test_a_failure_stays_until_its_work_is_done(visiting: Open) -> None:
    """The ends of the sliders fail, the car itself does not: its success does not hide that."""
    with visiting(forgiven="ERR_FAILED") as visit:
        broken = True

        def fail_ends(route: Route) -> None:
            latents = json.loads(route.request.post_data or "")["latents"]
            route.abort() if broken and len(latents) > 1 else route.continue_()

        visit.page.route("**/decode.webp", fail_ends)
        panel = visit.open("edit?car=3-0")
        alert = panel.get_by_role("alert")
        expect(alert).to_contain_text("cannot be reached")
        set_slider(panel.get_by_role("slider").first, 2)
        visit.expect_address("edit.car=3-0&by=2.*")
        visit.settle()
        expect(alert).to_contain_text("cannot be reached")
        broken = False
        panel.get_by_role("button", name="Retry").click()
        expect(alert).to_have_count(0)
        expect(panel.get_by_role("heading", level=1)).to_be_focused()


def test_a_request_that_is_never_answered_ends(visiting: Open) -> None:
    with visiting(forgiven="ERR_") as visit:
        visit.page.clock.install()
        visit.open("edit?car=3-0")
        panel = visit.panel("edit")
        visit.page.route("**/decode.webp", lambda _: None)
        plain = pixels(visit.part("edit", "picture"))
        with visit.page.expect_request("**/decode.webp"):
            set_slider(panel.get_by_role("slider").first, 2)
        visit.page.clock.fast_forward(31_000)
        expect(panel.get_by_role("alert")).to_contain_text("not answered in time")
        visit.page.unroute("**/decode.webp")
        panel.get_by_role("button", name="Retry").click()
        expect_other_pixels(visit.part("edit", "picture"), plain)
        expect(panel.get_by_role("alert")).to_have_count(0)


def test_a_service_that_comes_back_is_found_again(visiting: Open) -> None:
    with visiting(forgiven="ERR_FAILED") as visit:
        visit.page.clock.install()
        visit.page.route("**/model", lambda route: route.abort())
        visit.page.goto(f"{visit.root}/#sample?seed=7")
        alert = visit.page.get_by_role("alert")
        expect(alert).to_contain_text("cannot be reached")
        visit.page.unroute("**/model")
        visit.page.clock.fast_forward(6_000)
        expect(visit.part("sample", "wall").get_by_role("img")).to_have_count(24)
        expect(alert).to_have_count(0)


def test_a_part_of_the_page_that_does_not_come_is_named(visiting: Open) -> None:
    with visiting(forgiven="ERR_FAILED") as visit:
        visit.page.route("**/panels/edit.js", lambda route: route.abort())
        visit.page.goto(visit.root)
        expect(visit.page.get_by_role("alert")).to_contain_text("could not be loaded")
        visit.page.unroute("**/panels/edit.js")
        visit.page.get_by_role("button", name="Retry").click()
        visit.panel("interpolate")


def test_no_canvas_is_explained(visiting: Open) -> None:
    with visiting() as visit:
        visit.page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
        visit.page.goto(f"{visit.root}/#edit?car=3-0")
        expect(visit.panel("edit").get_by_role("alert")).to_contain_text("no room left to draw")


DAMAGED = "This link is damaged"


@pytest.mark.parametrize(
    ("fragment", "panel"),
    [
        ("interpolate?cars=28-0", "interpolate"),
        ("interpolate?cars=3-0,8-99,x&at=7", "interpolate"),
        ("edit?car=zz", "edit"),
        ("edit?car=3-0&by=99", "edit"),
        ("sample?seed=-1", "sample"),
        ("nowhere", "interpolate"),
    ],
)
def test_a_damaged_link_shows_cars_and_says_so(visit: Visit, fragment: str, panel: str) -> None:
    visit.page.goto(f"{visit.root}/#{fragment}")
    expect(visit.page.get_by_role("status")).to_contain_text(DAMAGED)
    visit.settle()
    if panel == "sample":
        expect(visit.part("sample", "wall").get_by_role("img")).to_have_count(24)
    else:
        shown = visit.part(panel, "picture")
        colours = "canvas => new Set(canvas.getContext('2d').getImageData(0, 0, 99, 66).data).size"
        assert shown.evaluate(colours) > 10


@pytest.mark.parametrize("text", ["{", "[]", '{"model": "car-vae/7", "cars": [null, {"image": 5}]}'])
def test_damaged_storage_is_left_behind(visit: Visit, text: str) -> None:
    visit.open("sample?seed=7")
    visit.page.evaluate("text => localStorage.setItem('car-vae kept', text)", text)
    visit.page.reload()
    expect(visit.page.get_by_role("status")).to_contain_text("kept cars were damaged")
    expect(visit.part("sample", "wall").get_by_role("img")).to_have_count(24)
    visit.page.reload()
    visit.settle()
    expect(visit.page.get_by_role("status")).to_be_empty()


def test_two_tabs_keep_one_another_s_cars(context: BrowserContext, visit: Visit) -> None:
    for other in watched(context.new_page(), visit.root):
        for tab, name in ((visit, "Car 1 of seed 7"), (other, "Car 2 of seed 7")):
            tab.open("sample?seed=7")
            tab.page.get_by_role("button", name=name, exact=True).click()
            tab.page.locator("dialog#car").get_by_role("button", name="Keep it").click()
        for tab in (visit, other):
            expect(tab.page.locator("#garage img")).to_have_count(2)


# the documentation


def test_the_api_is_described_without_a_network(visit: Visit) -> None:
    """`watched` sees to it that nothing came from elsewhere."""
    visit.page.goto(f"{visit.root}/docs")
    expect(visit.page.get_by_role("heading", name="car-vae")).to_be_visible()
    visit.page.locator(".opblock").first.click()
    expect(visit.page.get_by_role("button", name="Try it out")).to_be_visible()


# names and focus


def test_sliders_have_names(visit: Visit) -> None:
    for panel, name in (("sample", "Temperature"), ("edit", "Direction 1"), ("edit", "Direction 8")):
        expect(visit.open(panel).get_by_role("slider", name=name, exact=True)).to_have_count(1)
    slider = visit.panel("edit").get_by_role("slider", name="Direction 1", exact=True)
    set_slider(slider, -1)
    expect(slider).to_have_attribute("aria-valuetext", "\N{MINUS SIGN}1.0 \N{GREEK SMALL LETTER SIGMA}")


def test_the_skip_link_leads_to_what_is_open(visit: Visit) -> None:
    visit.open("sample?seed=7")
    visit.page.keyboard.press("Tab")
    visit.page.keyboard.press("Enter")
    expect(visit.page.locator(":focus")).to_have_text("Cars that do not exist")
    visit.expect_address("sample.*")


def test_the_focus_has_somewhere_to_go(visit: Visit) -> None:
    panel = visit.open("interpolate?cars=3-0,8-0,5-0")
    focused, press = visit.page.locator(":focus"), visit.page.keyboard.press
    panel.get_by_role("button", name="Remove").focus()
    press("Enter")
    expect(focused).to_have_accessible_name(re.compile("^Car 1: "))
    panel = visit.open("edit?car=3-0")
    slider = panel.get_by_role("slider", name="Direction 1", exact=True)
    set_slider(slider, 1)
    panel.get_by_role("button", name="Undo").focus()
    press("Enter")
    expect(slider).to_be_focused()
    visit.settle()
    panel.get_by_role("button", name="Keep it").click()
    visit.page.locator("#garage li button").focus()
    press("Enter")
    visit.page.locator("dialog#car").get_by_role("button", name="Keep it no longer").focus()
    press("Enter")
    expect(panel.get_by_role("heading", level=1)).to_be_focused()


def test_nothing_is_announced_while_a_morph_plays(visit: Visit) -> None:
    panel = visit.open("interpolate?cars=3-0,8-0")
    slider = visit.part("interpolate", "position")
    before = slider.get_attribute("aria-valuetext")
    panel.get_by_role("button", name="Play").click()
    expect(slider).not_to_have_value("0")
    assert slider.get_attribute("aria-valuetext") == before
    assert panel.locator("output, [aria-live]").count() == 0
    panel.get_by_role("button", name="Pause").click()
    expect(slider).not_to_have_attribute("aria-valuetext", before or "")


# bytes


def test_the_first_look_asks_for_pictures_once(visiting: Open) -> None:
    """One strip of all frames, asked for ahead; no latents, and no second request for it."""
    with visiting() as visit:
        visit.open()
        api = [urlsplit(request.url) for request in visit.requests if "/static/" not in request.url]
        assert sorted(address.path for address in api) == ["/", "/interpolate.webp", "/model"]


def test_latents_come_when_a_car_is_opened(visit: Visit) -> None:
    visit.open("sample?seed=7")
    assert visit.asked("/sample.json") == 0
    visit.page.get_by_role("button", name="Car 3 of seed 7", exact=True).click()
    visit.page.locator("dialog#car").get_by_role("button", name="Edit it").click()
    visit.panel("edit")
    visit.settle()
    assert visit.asked("/sample.json") == 1
    expect(visit.panel("edit").get_by_role("alert")).to_have_count(0)


def test_a_large_photograph_is_sent_small(visiting: Open) -> None:
    with visiting() as visit:
        visit.page.add_init_script(
            """const real = fetch;
            window.fetch = async (address, options) => {
                if (options.body instanceof FormData) {
                    const { width, height } = await createImageBitmap(options.body.get("image"));
                    window.sent = [width, height];
                }
                return real(address, options);
            }"""
        )
        visit.open("interpolate?cars=3-0,8-0")
        visit.part("interpolate", "photo").set_input_files(car_file(1, 3000, 2000))
        expect(visit.part("interpolate", "private")).to_be_visible()
        assert visit.page.evaluate("() => window.sent") == [192, 128]
