"""A visit to the page: what is seen and asked for, and what must not happen on it unseen."""

import io
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image
from playwright.sync_api import ConsoleMessage, FilePayload, Locator, Page, Request, ViewportSize, expect

from model_training.data.synthetic import draw_cars

DESKTOP: ViewportSize = {"width": 1440, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
PANELS = ("interpolate", "sample", "edit", "reconstruct")
PATIENCE = 30_000
"""Milliseconds; a machine may be busy with other things."""
REFUSED = "Failed to load resource: the server responded with a status of "
AXE = Path(__file__).parents[1] / "node_modules" / "axe-core" / "axe.min.js"


def car_file(seed: int = 1, width: int = 480, height: int = 320, name: str = "car.jpg") -> FilePayload:
    """A drawn car as a JPEG upload."""
    file = io.BytesIO()
    Image.fromarray(draw_cars(1, width, height, seed)[0]).save(file, "JPEG", quality=92)
    return {"name": name, "mimeType": "image/jpeg", "buffer": file.getvalue()}


def tiff_file(width: int = 96, height: int = 64) -> FilePayload:
    """A drawn car in a file that browsers cannot show, and so send as it is."""
    file = io.BytesIO()
    Image.fromarray(draw_cars(1, width, height, 4)[0]).save(file, "TIFF")
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
        """Wait until the fragment is so, but for the model that it names."""
        expect(self.page).to_have_url(re.compile(f"#{pattern}(&model=[\\w/-]+)?$"))

    def note_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def note_request(self, request: Request) -> None:
        self.requests.append(request)


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
    assert elsewhere == [], elsewhere
    complaints = [text for text in visit.complaints if not (forgiven and re.search(forgiven, text))]
    assert complaints == [], complaints
    page.close()


def pixels(canvas: Locator) -> str:
    """What a canvas shows, as a data URL."""
    return str(canvas.evaluate("canvas => canvas.toDataURL()"))


def expect_other_pixels(canvas: Locator, than: str) -> None:
    """Wait until a canvas shows something else."""
    changed = "([canvas, than]) => canvas.toDataURL() !== than"
    canvas.page.wait_for_function(changed, arg=[canvas.element_handle(), than])


def expect_pixels(canvas: Locator, same: str) -> None:
    """Wait until a canvas shows what it has shown before."""
    is_same = "([canvas, same]) => canvas.toDataURL() === same"
    canvas.page.wait_for_function(is_same, arg=[canvas.element_handle(), same])


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
