"""The page that decodes by itself, in a real browser: the same pixels, no request a frame, one policy."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from playwright.sync_api import BrowserType, Page, expect

from tests.docs.conftest import CHROMIUM, EXAMPLES, FLAGS, PATIENCE, Stage
from tests.images import array_of

FOLDER = EXAMPLES / "decoder-in-browser"
RUNTIME = FOLDER / "node_modules" / "onnxruntime-web" / "dist" / "ort-wasm-simd-threaded.wasm"
READY = "Each frame is decoded here, without a request."
NPM = ("npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--silent")


@pytest.fixture(scope="session", autouse=True)
def runtime() -> None:
    """ONNX Runtime for browsers, where npm can bring it."""
    if RUNTIME.exists():
        return
    if shutil.which("npm") is None:
        pytest.skip("onnxruntime-web is not installed, and there is no npm")
    done = subprocess.run(NPM, cwd=FOLDER, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode != 0:
        pytest.skip(f"npm cannot install onnxruntime-web: {done.stderr.strip()}")


def visit(page: Page, stage: Stage, says: str = READY) -> list[str]:
    """Open the page; answers the addresses that it asks for, as they come."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{stage.pages}/decoder-in-browser/index.html")
    expect(page.get_by_role("status")).to_have_text(says)
    return asked


def canvas_pixels(page: Page) -> Any:
    """(height, width, 3) of the canvas."""
    found = page.locator("canvas").evaluate(
        "canvas => ({ width: canvas.width, height: canvas.height, data: Array.from("
        "canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data) })"
    )
    return np.array(found["data"]).reshape(found["height"], found["width"], 4)[..., :3]


def test_its_frames_are_those_of_the_service(page: Page, stage: Stage, client: httpx.Client) -> None:
    visit(page, stage)
    ends = client.post("/sample?format=json", json={"count": 2, "seed": 3}).json()["latents"]
    for position in (0, 0.3, 0.5, 0.71, 1):
        page.get_by_label("Position").evaluate(
            "(slider, position) => { slider.value = position; slider.dispatchEvent(new Event('input')); }",
            position,
        )
        expect(page.locator("canvas")).to_have_attribute("data-lambda", str(position))
        path = {"latents": ends, "lambdas": [position]}
        served = array_of(client.post("/interpolate", json=path).content)
        np.testing.assert_allclose(canvas_pixels(page), served, atol=1)


def test_a_morph_asks_for_nothing(page: Page, stage: Stage) -> None:
    asked = visit(page, stage)
    loaded = [url.removeprefix(stage.service) for url in asked if url.startswith(stage.service)]
    (graph,) = (url for url in loaded if url.startswith("/model/"))
    assert sorted(loaded) == sorted(["/model", "/sample?format=json&count=2&seed=3", graph])
    asked.clear()
    page.get_by_role("button", name="Play").click()
    expect(page.locator("canvas")).to_have_attribute("data-lambda", "1")
    expect(page.get_by_role("button", name="Play")).to_be_enabled()
    assert asked == []


def test_the_decoder_is_loaded_once_for_all_visits(
    chromium: BrowserType, stage: Stage, client: httpx.Client, tmp_path: Path
) -> None:
    before = times_loaded(client)
    with chromium.launch_persistent_context(tmp_path, executable_path=CHROMIUM, args=FLAGS) as context:
        context.set_default_timeout(PATIENCE)
        visit(context.new_page(), stage)
        visit(context.new_page(), stage)
    assert times_loaded(client) == before + 1


def times_loaded(client: httpx.Client) -> float:
    lines = client.get("/metrics").text.splitlines()
    name = 'car_vae_requests_total{endpoint="/model/decoder'
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def test_its_policy_lets_webassembly_in_and_is_needed_for_it(
    page: Page, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = (FOLDER / "index.html").read_text()
    policy = "script-src 'self' 'wasm-unsafe-eval';"
    assert policy in written
    assert written.count("unsafe") == 2, "in the policy, and in the comment on it"
    monkeypatch.setitem(stage.replaced, policy, "script-src 'self';")
    page.goto(f"{stage.pages}/decoder-in-browser/index.html")
    expect(page.get_by_role("status")).to_contain_text("Content Security Policy")
    expect(page.get_by_role("button", name="Play")).to_be_disabled()
