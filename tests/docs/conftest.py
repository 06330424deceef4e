"""The service for the examples in docs/, with the model that ships, and their pages on another origin."""

import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserType, Page, expect, sync_playwright

from app.settings import Settings
from tests.performance.service import ROOT, running

EXAMPLES = ROOT / "docs" / "examples"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
PATIENCE = 60_000
"""Milliseconds; a machine may be busy with other things."""
WRITTEN = "http://localhost:8000"
"""Where the examples look for the service."""


@dataclass(frozen=True)
class Stage:
    """A running service, and the origin of the pages that may call it.

    Attributes:
        replaced: what in the text of the pages is replaced by what as they are sent.
    """

    service: str
    pages: str
    replaced: dict[str, str]


class Pages(ThreadingHTTPServer):
    """The files of the examples, with some of their text replaced."""

    def __init__(self) -> None:
        self.replaced: dict[str, str] = {}
        super().__init__(("127.0.0.1", 0), PagesHandler)
        self.origin = f"http://127.0.0.1:{self.server_port}"


class PagesHandler(SimpleHTTPRequestHandler):
    """Sends a file, edited where it is a page or a script of ours."""

    server: Pages

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments, directory=str(EXAMPLES))

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if "node_modules" in path.parts or path.suffix not in (".html", ".js"):
            super().do_GET()
            return
        text = path.read_text(encoding="utf-8")
        for written, replacement in self.server.replaced.items():
            text = text.replace(written, replacement)
        content = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(path))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="package")
def stage() -> Iterator[Stage]:
    with Pages() as pages:
        thread = threading.Thread(target=pages.serve_forever)
        thread.start()
        try:
            settings = {"cors_origins": pages.origin, "serve_decoder": "true", "log_level": "warning"}
            with running(Settings().model_dir, **settings) as service:
                address = f"http://127.0.0.1:{service.port}"
                pages.replaced[WRITTEN] = address
                yield Stage(address, pages.origin, pages.replaced)
        finally:
            pages.shutdown()
            thread.join()


@pytest.fixture(scope="package")
def client(stage: Stage) -> Iterator[httpx.Client]:
    """A client of the service."""
    with httpx.Client(base_url=stage.service, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")  # two at once cannot be in one thread
def chromium() -> Iterator[BrowserType]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        yield playwright.chromium


@pytest.fixture(scope="module")
def browser(chromium: BrowserType) -> Iterator[Browser]:
    browser = chromium.launch(executable_path=CHROMIUM, args=FLAGS)
    yield browser
    browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page in a window that remembers nothing."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    yield context.new_page()
    context.close()
