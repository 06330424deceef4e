"""Animations of the model that ships: nearer to their frames than a GIF, and moving in a real browser."""

import base64
import io
import shutil
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from app.images.arrays import ImageArray
from app.images.encode import frame_durations
from app.images.quality import psnr
from tests.e2e.conftest import ROOT, serving
from tests.images import array_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FRAMES = 12
PATIENCE = 30_000
"""Milliseconds; a machine may be busy with other things."""

IN_THE_BROWSER = """async ([address, type]) => {
    const image = new Image();
    image.id = "animation";
    image.src = address;
    await image.decode();
    document.body.replaceChildren(image);
    const data = await (await fetch(address)).arrayBuffer();
    const decoder = new ImageDecoder({ data, type });
    await Promise.all([decoder.tracks.ready, decoder.completed]);
    const { frameCount, repetitionCount } = decoder.tracks.selectedTrack;
    const durations = [];
    for (let frameIndex = 0; frameIndex < frameCount; frameIndex += 1) {
        const { image: frame } = await decoder.decode({ frameIndex });
        durations.push(frame.duration / 1000);
        frame.close();
    }
    return { width: image.naturalWidth, height: image.naturalHeight, repetitionCount, durations };
}"""


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    log = tmp_path_factory.mktemp("animations") / "service.log"
    with serving(ROOT / "models" / "car-vae" / "2", log) as client:
        yield client


def address(kind: str, size: int | None, seeds: str = "seed=3&seed=8") -> str:
    animate = "" if kind == "json" else "&animate=true"
    at_size = "" if size is None else f"&size={size}"
    return f"/interpolate.{kind}?{seeds}&steps={FRAMES}{at_size}{animate}"


def frames_of(content: bytes) -> ImageArray:
    with Image.open(io.BytesIO(content)) as animation:
        frames = []
        for number in range(getattr(animation, "n_frames", 1)):
            animation.seek(number)
            frames.append(np.asarray(animation.convert("RGB")))
    return np.stack(frames)


@pytest.mark.parametrize("size", [None, 160, 384])
def test_every_frame_is_at_least_as_near_as_in_a_gif_many_times_larger(
    shipped: httpx.Client, size: int | None
) -> None:
    for seeds in ("seed=3&seed=8", "seed=0&seed=7&seed=12"):
        urls = shipped.get(address("json", size, seeds)).json()["images"]
        exact = np.stack([array_of(base64.b64decode(url.split(",")[1])) for url in urls])
        gif = shipped.get(address("gif", size, seeds)).content
        for kind, smaller in (("webp", 2), ("avif", 4)):
            content = shipped.get(address(kind, size, seeds)).content
            assert len(content) < len(gif) / smaller
            assert (psnr(exact, frames_of(content)) >= psnr(exact, frames_of(gif))).all()


@pytest.fixture(scope="module")
def page(shipped: httpx.Client) -> Iterator[Any]:
    """The page of the service in a browser."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(str(shipped.base_url))
        page.wait_for_selector("html:not([data-busy])", state="attached")
        yield page
        browser.close()


@pytest.mark.parametrize("kind", ["webp", "avif", "gif"])
def test_a_browser_shows_every_frame_for_its_time(page: Any, kind: str) -> None:
    shown = page.evaluate(IN_THE_BROWSER, [address(kind, 384), f"image/{kind}"])
    assert (shown["width"], shown["height"]) == (384, 256)
    assert shown["durations"] == frame_durations(FRAMES)
    assert shown["repetitionCount"] in (None, float("inf"))
    image = page.locator("#animation")
    first = image.screenshot()
    for _ in range(100):
        if image.screenshot() != first:
            return
        page.evaluate("() => new Promise(done => requestAnimationFrame(done))")
    raise AssertionError("the picture has not moved")


def test_a_browser_gets_the_smallest_by_itself(page: Any) -> None:
    with page.expect_response("**/interpolate?*") as answered:
        page.evaluate(
            """async (address) => {
                const image = new Image();
                image.src = address;
                await image.decode();
            }""",
            "/interpolate?seed=3&seed=8&animate=true",
        )
    assert answered.value.headers["content-type"] == "image/avif"
