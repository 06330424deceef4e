"""Open pages in a real browser, on a freshly trained model."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, ViewportSize, expect, sync_playwright

from tests.e2e.page.visits import PATIENCE, Open, Visit, watched

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WINDOW: ViewportSize = {"width": 1100, "height": 800}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


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
