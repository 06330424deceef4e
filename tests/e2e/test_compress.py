"""The panel Compress in a real browser: a car as a code, beside the original and beside other formats."""

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.e2e.conftest import serving
from tests.tiny_model import write_tiny_model

pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
from playwright.sync_api import FilePayload, Locator, Page, Route, expect

from tests.e2e.test_page import (
    AXE,
    CHROMIUM,
    DESKTOP,
    PHONE,
    REFUSED,
    Open,
    Visit,
    browser,
    pixels,
    set_slider,
    visiting,
)

__all__ = ["browser", "visiting"]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

STOPS = [24, 35, 48, 64, 94, 128, 192, 255, 400]
SMALLEST = {"webp": 60, "blurhash": 22, "thumbhash": 21, "jpeg": 308, "avif": 299}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("codes")
    model = write_tiny_model(folder / "tiny-vae" / "1", codes=True, refiner=True)
    with serving(model, folder / "service.log") as client:
        yield client


@pytest.fixture
def root(service: httpx.Client) -> str:
    return str(service.base_url).rstrip("/")


def picture(colour: Any, width: int = 480, height: int = 320) -> FilePayload:
    """A photograph of one colour, or of several side by side."""
    image = Image.new("RGB", (width, height))
    colours = colour if isinstance(colour, list) else [colour]
    for index, each in enumerate(colours):
        image.paste(each, (width * index // len(colours), 0, width, height))
    file = io.BytesIO()
    image.save(file, "PNG")
    return {"name": "car.png", "mimeType": "image/png", "buffer": file.getvalue()}


def shown(canvas: Locator) -> NDArray[np.uint8]:
    """What a canvas shows, (height, width, 3) uint8."""
    with Image.open(io.BytesIO(base64.b64decode(pixels(canvas).partition(",")[2]))) as image:
        return np.asarray(image.convert("RGB"))


def of_url(url: str) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGB"))


def add_formats(page: Page) -> None:
    """Give the service's answers what it is asked for of other formats."""

    def fulfil(route: Route) -> None:
        address = urlsplit(route.request.url)
        query = parse_qs(address.query)
        formats = query.pop("others")[0].split(",")
        answer = route.fetch(url=address._replace(query=urlencode(query, doseq=True)).geturl())
        content = answer.json()
        budgets = [int(text) for text in query["bytes"][0].split(",")]
        for item in content.get("items", []):
            item["others"] = [in_format(name, budgets, item) for name in formats]
        route.fulfill(response=answer, json=content)

    page.route("**/compress.json?*", fulfil)


def in_format(name: str, budgets: list[int], item: dict[str, Any]) -> dict[str, Any]:
    """AVIF, where it can be at all, is nearer to the original than the code; all others are not."""
    gain = 1 if name == "avif" else -1
    fits = [SMALLEST[name] <= budget for budget in budgets]
    return {
        "format": name,
        "smallest": SMALLEST[name],
        "bytes": [budget - 1 if fit else None for budget, fit in zip(budgets, fits, strict=True)],
        "psnr": [psnr + gain if fit else None for psnr, fit in zip(item["psnr"], fits, strict=True)],
        "images": [item["images"][0] if fit else None for fit in fits],
    }


def open_compress(visit: Visit, fragment: str = "compress") -> Locator:
    add_formats(visit.page)
    return visit.open(fragment)


def part(visit: Visit, name: str) -> Locator:
    return visit.part("compress", name)


def codes_of(service: httpx.Client, file: FilePayload, stops: list[int] = STOPS) -> dict[str, Any]:
    """What the service itself answers for a photograph."""
    answer = service.post(
        "/compress.json",
        params={"bytes": ",".join(map(str, stops)), "images": "png"},
        files={"image": file["buffer"]},
    )
    item: dict[str, Any] = answer.json()["items"][0]
    return item


def test_it_opens_on_a_drawn_car_and_one_request_brings_all_stops(
    visiting: Open, root: str, service: httpx.Client
) -> None:
    with visiting(root) as visit:
        add_formats(visit.page)
        visit.page.goto(root)
        visit.settle()
        visit.panel("compress")
        asked = [urlsplit(each.url).path for each in visit.requests if "/static/" not in each.url]
        asked = [path for path in asked if path.startswith("/")]
        assert sorted(set(asked)) == ["/", "/compress.json", "/model", "/sample.json"]
        assert asked.count("/compress.json") == asked.count("/sample.json") == 1
        latents = service.get("/sample.json?seed=28").json()["latents"]
        expected = service.post(
            "/compress.json",
            params={"bytes": STOPS, "images": "png"},
            json={"latents": latents},
        ).json()["items"][0]
        for place, (code, length, url) in enumerate(
            zip(expected["codes"], expected["bytes"], expected["images"], strict=True)
        ):
            set_slider(part(visit, "size"), place)
            expect(part(visit, "title")).to_have_text(f"This car is {length} bytes")
            expect(part(visit, "code")).to_have_text(code)
            expect(part(visit, "letters")).to_have_text(str(len(code)))
            expect(part(visit, "decibels")).to_have_text(f"{expected['psnr'][place]:.1f} dB")
            drawn = shown(part(visit, "decoded")).mean(axis=(0, 1))
            assert np.abs(drawn - of_url(url).mean(axis=(0, 1))).max() < 4
        asked_later = [urlsplit(each.url).path for each in visit.requests if "/static/" not in each.url]
        assert len([path for path in asked_later if path.startswith("/")]) == len(asked)
        assert part(visit, "size").get_attribute("aria-valuetext") == (
            f"400 bytes, {expected['psnr'][-1]:.1f} decibels"
        )
        visit.expect_address(r"compress\?car=28-0&bytes=400")


def test_the_address_of_a_drawn_car_holds_it_and_its_bytes(visiting: Open, root: str) -> None:
    with visiting(root) as visit:
        open_compress(visit, "compress?car=5-0&bytes=48")
        code = part(visit, "code").text_content()
        assert part(visit, "size").input_value() == "2"
        with visit.page.expect_response("**/compress.json?*"):
            visit.panel("compress").get_by_role("button", name="Try a drawn car").click()
        visit.settle()
        assert part(visit, "code").text_content() != code
        assert part(visit, "size").input_value() == "2"
        visit.expect_address(r"compress\?car=\d+-0&bytes=48")


def test_the_divider_is_a_slider_over_both_pictures(visiting: Open, root: str, service: httpx.Client) -> None:
    with visiting(root) as visit:
        panel = open_compress(visit)
        file = picture((250, 20, 20))
        with visit.page.expect_response("**/compress.json?*"):
            part(visit, "file").set_input_files(file)
        visit.settle()
        item = codes_of(service, file)
        divider = panel.get_by_role("slider", name="Divider between the original and the car from its code")

        def middle() -> NDArray[np.float64]:
            """The colour of what is seen in the left half, below the labels."""
            seen = Image.open(io.BytesIO(part(visit, "compare").screenshot())).convert("RGB")
            width, height = seen.size
            box = (width // 8, height // 3, width // 3, 2 * height // 3)
            return np.asarray(np.asarray(seen.crop(box)).mean(axis=(0, 1)))

        from_code = of_url(item["images"][STOPS.index(94)]).mean(axis=(0, 1))
        assert np.abs(from_code - (250, 20, 20)).max() > 30, "the tiny model cannot do this"
        divider.focus()
        visit.page.keyboard.press("Home")
        assert np.abs(middle() - from_code).max() < 25
        visit.page.keyboard.press("End")
        assert np.abs(middle() - (250, 20, 20)).max() < 6
        assert divider.get_attribute("aria-valuetext") == "100 % original"
        box = divider.bounding_box()
        assert box is not None
        mouse, y = visit.page.mouse, box["y"] + box["height"] / 2
        mouse.move(box["x"] + box["width"] * 0.9, y)
        mouse.down()
        mouse.move(box["x"] + box["width"] * 0.05, y, steps=5)
        assert int(divider.input_value()) < 10
        mouse.up()
        assert np.abs(middle() - from_code).max() < 25


def test_a_portrait_stays_one(visiting: Open, root: str, service: httpx.Client) -> None:
    with visiting(root) as visit:
        open_compress(visit)
        file = picture(["navy", "white", "navy"], 200, 400)
        with visit.page.expect_response("**/compress.json?*"):
            part(visit, "file").set_input_files(file)
        visit.settle()
        left, top, right, bottom = codes_of(service, file)["box"]
        assert right - left < bottom - top
        for element in (part(visit, "compare"), part(visit, "tiles").locator("img").first):
            box = element.bounding_box()
            assert box is not None
            assert box["width"] / box["height"] == pytest.approx((right - left) / (bottom - top), rel=0.02)


def test_other_formats_stand_beside_it(visiting: Open, root: str) -> None:
    with visiting(root) as visit:
        open_compress(visit)
        tiles = part(visit, "tiles")
        expect(tiles.get_by_role("listitem")).to_have_count(6)
        jpeg = tiles.get_by_role("listitem").filter(has_text="JPEG")
        expect(jpeg).to_contain_text("No JPEG file of this car is below 308 bytes")
        expect(jpeg.get_by_role("img")).to_have_count(0)
        expect(tiles.get_by_role("img", name="The car as WebP, 93 bytes")).to_be_visible()
        expect(tiles.locator(".best")).to_contain_text("car-vae")
        expect(part(visit, "overtakers")).to_have_text("AVIF wins from 400 bytes on.")
        set_slider(part(visit, "size"), 0)
        webp = tiles.get_by_role("listitem").filter(has_text="WebP")
        expect(webp).to_contain_text("No WebP file of this car is below 60 bytes")
        set_slider(part(visit, "size"), 8)
        expect(tiles.get_by_role("img")).to_have_count(6)
        expect(tiles.locator(".best")).to_contain_text("AVIF")
        curve = part(visit, "curve").get_by_role("img")
        expect(curve).to_have_accessible_name(
            re.compile(r"car-vae from .* dB in \d+ bytes to .* in \d+; WebP from .* AVIF .* in 399 bytes")
        )


def test_a_photograph_is_in_no_address_unless_it_is_shared(
    visiting: Open, root: str, service: httpx.Client
) -> None:
    with visiting(root, permissions=["clipboard-read", "clipboard-write"]) as visit:
        panel = open_compress(visit)
        file = picture(["black", "white"])
        part(visit, "file").set_input_files(file)
        visit.expect_address("compress")
        code = codes_of(service, file)["codes"][STOPS.index(94)]
        expect(part(visit, "code")).to_have_text(code)
        expect(panel.get_by_text("nothing is stored here")).to_be_visible()
        panel.get_by_role("button", name="Copy link").click()
        expect(visit.page.locator("#notice")).to_have_text("Link copied.")
        assert visit.page.evaluate("() => navigator.clipboard.readText()") == f"{root}/c/{code}"
        assert code not in visit.page.url
        assert not any(code in each.url for each in visit.requests)
        panel.get_by_role("button", name="Share").click()
        visit.expect_address(f"compress.code={code}")
        set_slider(part(visit, "size"), 5)
        visit.expect_address("compress")


def test_the_code_can_be_taken_home(visiting: Open, root: str) -> None:
    with visiting(root) as visit:
        panel = open_compress(visit)
        code = part(visit, "code").text_content() or ""
        raw = base64.urlsafe_b64decode(code + "=" * (-len(code) % 4))
        with visit.page.expect_download() as download:
            panel.get_by_role("button", name="Save bytes").click()
        assert download.value.suggested_filename == f"car-{len(raw)}-bytes.bin"
        assert Path(download.value.path()).read_bytes() == raw
        with visit.page.expect_download() as download:
            panel.get_by_role("button", name="Save picture").click()
        with Image.open(download.value.path()) as image:
            assert (image.format, image.width) == ("PNG", 1024)
            assert image.height == pytest.approx(1024 * 16 / 24, abs=1)


@pytest.mark.parametrize("stop", [24, 94, 400])
def test_the_qr_code_is_the_link(visiting: Open, root: str, stop: int) -> None:
    zxing = pytest.importorskip("zxingcpp", reason="the package zxing-cpp is not installed")
    with visiting(root, viewport=PHONE) as visit:
        panel = open_compress(visit, "compress?car=3-0")
        set_slider(part(visit, "size"), STOPS.index(stop))
        assert not any(each.url.endswith("compress/qr.js") for each in visit.requests)
        button = panel.get_by_role("button", name="QR code")
        button.click()
        code = panel.get_by_role("img", name="QR code of the link to this car")
        with Image.open(io.BytesIO(code.screenshot())) as image:
            (found,) = zxing.read_barcodes(image)
        assert found.text == f"{root}/c/{part(visit, 'code').text_content()}"
        button.click()
        expect(code).to_be_hidden()


def test_qr_codes_of_every_size_are_read(visiting: Open, root: str) -> None:
    zxing = pytest.importorskip("zxingcpp", reason="the package zxing-cpp is not installed")
    lengths = [int(10 + 2943 * (place / 47) ** 2) for place in range(48)]
    with visiting(root) as visit:
        open_compress(visit)
        module = visit.page.locator('link[href$="panels/compress.js"]').get_attribute("href") or ""
        address = f"{root}/{module.replace('panels/compress.js', 'compress/qr.js')}"
        session = visit.page.context.new_cdp_session(visit.page)
        script = """(async () => {
            const { qrModules } = await import(ADDRESS);
            const text = (length) => Array.from({ length }, (_, i) =>
                String.fromCharCode(33 + ((i * 7919 + length) % 90))).join("");
            const found = LENGTHS.map((length) => [text(length),
                qrModules(text(length)).map((row) => row.map((dark) => (dark ? "1" : "0")).join(""))]);
            let most = "none";
            try { qrModules("x".repeat(2954)); } catch (error) { most = error.name; }
            return JSON.stringify([found, most]);
        })()""".replace("ADDRESS", json.dumps(address)).replace("LENGTHS", str(lengths))
        options = {"expression": script, "awaitPromise": True, "returnByValue": True}
        found, most = json.loads(session.send("Runtime.evaluate", options)["result"]["value"])
    versions = set()
    for text, rows in found:
        light = 1 - np.array([[int(module) for module in row] for row in rows], np.uint8)
        image = np.kron(np.pad(light, 4, constant_values=1), np.full((3, 3), 255, np.uint8))
        (barcode,) = zxing.read_barcodes(image)
        assert barcode.text == text
        versions.add((len(rows) - 17) // 4)
    assert {1, 40} < versions
    assert len(versions) > 30
    assert most == "RangeError"


# codes


def serve_codes(page: Page, service: httpx.Client) -> None:
    """The picture of a code at its address."""

    def fulfil(route: Route) -> None:
        code = urlsplit(route.request.url).path.split("/c/")[1].removesuffix(".webp")
        answer = service.get("/decode.webp", params={"code": code})
        route.fulfill(status=answer.status_code, headers=dict(answer.headers), body=answer.content)

    page.route("**/c/*.webp", fulfil)


@pytest.mark.parametrize("way", ["hash", "paste", "paste a link"])
def test_a_code_is_opened(visiting: Open, root: str, service: httpx.Client, way: str) -> None:
    item = codes_of(service, picture(["black", "white"]))
    code, length = item["codes"][STOPS.index(192)], item["bytes"][STOPS.index(192)]
    with visiting(root) as visit:
        serve_codes(visit.page, service)
        panel = open_compress(visit, f"compress?code={code}" if way == "hash" else "compress?car=3-0")
        if way != "hash":
            given = code if way == "paste" else f" {root}/c/{code}\n"
            panel.get_by_label("A code, or a link with one").fill(given)
            visit.page.keyboard.press("Enter")
        expect(part(visit, "title")).to_have_text(f"This car is {length} bytes")
        expect(part(visit, "code")).to_have_text(code)
        expect(part(visit, "decibels")).to_have_text("As it came")
        visit.expect_address(f"compress.code={code}")
        assert int(part(visit, "size").get_attribute("max") or 0) == len(
            [stop for stop in STOPS if stop < length]
        )
        whole = service.get("/decode.png", params={"code": code}).content
        with Image.open(io.BytesIO(whole)) as image:
            expected = np.asarray(image.convert("RGB")).mean(axis=(0, 1))
        assert np.abs(shown(part(visit, "decoded")).mean(axis=(0, 1)) - expected).max() < 4
        set_slider(part(visit, "size"), 0)
        expect(part(visit, "decibels")).to_contain_text("dB")
        visit.expect_address(f"compress.code={code}&bytes=24")


@pytest.mark.parametrize("way", ["link", "paste"])
@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [("damaged", 400, "This code is damaged"), ("foreign", 409, "This code is of another model")],
)
def test_a_code_that_is_none_shows_no_other_car(
    visiting: Open, root: str, service: httpx.Client, way: str, kind: str, status: int, words: str
) -> None:
    good = codes_of(service, picture("white"), [24])["codes"][0]
    code = good[:-3] + "AAA" if kind == "damaged" else foreign(good)
    with visiting(root, forgiven=f"{REFUSED}{status}|preload") as visit:
        serve_codes(visit.page, service)
        panel = open_compress(visit, f"compress?code={code}" if way == "link" else "compress?car=3-0")
        if way == "paste":
            panel.get_by_label("A code, or a link with one").fill(code)
            panel.get_by_role("button", name="Open").click()
        expect(panel.get_by_role("alert")).to_contain_text(words)
        for element in (part(visit, "compare"), part(visit, "code"), part(visit, "tiles")):
            expect(element).to_be_hidden()
        panel.get_by_role("button", name="Try a drawn car").click()
        expect(part(visit, "compare")).to_be_visible()
        expect(panel.get_by_role("alert")).to_have_count(0)


def foreign(code: str) -> str:
    """The same code, as one of another model."""
    raw = bytearray(base64.urlsafe_b64decode(code + "=" * (-len(code) % 4)))
    raw[0] ^= 7
    raw[-1] = check(bytes(raw[:-1]))
    return base64.urlsafe_b64encode(bytes(raw)).decode().rstrip("=")


def check(content: bytes) -> int:
    """CRC-8/AUTOSAR, as docs/CODE.md has it."""
    rest = 0xFF
    for byte in content:
        rest ^= byte
        for _ in range(8):
            rest = ((rest << 1) ^ (0x2F if rest & 0x80 else 0)) & 0xFF
    return rest ^ 0xFF


# when things go wrong


def test_the_last_of_two_photographs_is_shown(visiting: Open, root: str, service: httpx.Client) -> None:
    with visiting(root) as visit:
        open_compress(visit)
        held: list[Route] = []

        def hold(route: Route) -> None:
            route.fallback() if held else held.append(route)

        visit.page.route("**/compress.json?*", hold)
        with visit.page.expect_request("**/compress.json?*"):
            part(visit, "file").set_input_files(picture("black"))
        last = picture("white")
        part(visit, "file").set_input_files(last)
        with visit.page.expect_response("**/compress.json?*"):
            held[0].fallback()
        code = codes_of(service, last)["codes"][STOPS.index(94)]
        expect(part(visit, "code")).to_have_text(code)
        visit.settle()
        expect(part(visit, "code")).to_have_text(code)
        assert shown(part(visit, "original")).min() > 250


def test_a_lost_service_is_one_message_with_retry(visiting: Open, root: str) -> None:
    with visiting(root, forgiven="ERR_FAILED") as visit:
        visit.page.route("**/compress.json?*", lambda route: route.abort())
        visit.page.goto(root)
        panel = visit.panel("compress")
        expect(panel.get_by_role("alert")).to_have_count(1)
        expect(panel.get_by_role("alert")).to_contain_text("cannot be reached")
        expect(part(visit, "compare")).to_be_visible()
        visit.page.unroute("**/compress.json?*")
        add_formats(visit.page)
        panel.get_by_role("button", name="Retry").click()
        expect(part(visit, "decibels")).to_contain_text("dB")
        expect(panel.get_by_role("alert")).to_have_count(0)


def test_a_file_that_is_no_picture_leaves_the_car_that_is_there(visiting: Open, root: str) -> None:
    with visiting(root, forgiven=f"{REFUSED}415") as visit:
        panel = open_compress(visit)
        code = part(visit, "code").text_content() or ""
        visit.page.unroute("**/compress.json?*")
        visit.page.route("**/compress.json?*", lambda route: route.fulfill(status=415, json={"detail": ""}))
        part(visit, "file").set_input_files(
            {"name": "car.txt", "mimeType": "text/plain", "buffer": b"no picture"}
        )
        expect(panel.get_by_role("alert")).to_contain_text("not a kind of picture")
        expect(part(visit, "code")).to_have_text(code)


def test_a_model_without_codes_has_no_such_panel(visiting: Open, client: httpx.Client) -> None:
    with visiting(forgiven="preload") as visit:
        visit.page.goto(str(client.base_url))
        visit.panel("interpolate")
        expect(visit.page.get_by_role("link", name="Compress")).to_have_count(0)


# for everyone


def test_it_works_on_a_phone(visiting: Open, root: str) -> None:
    with visiting(root, viewport=PHONE, is_mobile=True, has_touch=True, device_scale_factor=2) as visit:
        panel = open_compress(visit)
        panel.get_by_role("button", name="QR code").tap()
        part(visit, "file").set_input_files(picture(["navy", "white"], 300, 500))
        panel.get_by_text("Crop the photograph").tap()
        panel.get_by_text("The request behind this").tap()
        set_slider(part(visit, "size"), 8)
        assert visit.page.evaluate("() => document.documentElement.scrollWidth") == PHONE["width"]
        for control in panel.locator("button, .button, input[type=range], summary").all():
            box = control.bounding_box() if control.is_visible() else None
            assert box is None or (box["height"] >= 24 and box["width"] >= 24)
        for link in visit.page.get_by_role("navigation", name="Panels").get_by_role("link").all():
            box = link.bounding_box()
            assert box is not None
            assert box["width"] >= 44


def test_all_of_it_by_keyboard(visiting: Open, root: str) -> None:
    with visiting(root) as visit:
        open_compress(visit)
        press = visit.page.keyboard.press
        reached = ["Panels"]
        visit.page.locator(".brand").focus()
        while reached[-1] != "Open":
            press("Tab")
            reached.append(
                visit.page.locator(":focus").evaluate(
                    "element => element.ariaLabel ?? (element.labels?.[0] ?? element).textContent.trim()"
                )
            )
        for name in (
            "Divider between the original and the car from its code",
            "Bytes",
            "Choose a photograph",
            "Try a drawn car",
            "Share",
            "Copy link",
            "Copy code",
            "QR code",
            "Save picture",
            "Save bytes",
            "A code, or a link with one",
            "Open",
        ):
            assert name in reached
        part(visit, "size").focus()
        press("Home")
        expect(part(visit, "budget")).to_have_text("24")
        press("ArrowRight")
        expect(part(visit, "budget")).to_have_text("35")


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed: npm install --prefix tests/e2e")
@pytest.mark.parametrize("colours", ["light", "dark", "forced"])
def test_nothing_serious_for_axe(visiting: Open, root: str, colours: str) -> None:
    options: dict[str, Any] = {"color_scheme": "dark" if colours == "dark" else "light"}
    options["viewport"] = DESKTOP if colours == "light" else PHONE
    if colours == "forced":
        options["forced_colors"] = "active"
    with visiting(root, **options) as visit:
        panel = open_compress(visit)
        panel.get_by_role("button", name="QR code").click()
        part(visit, "file").set_input_files(picture(["navy", "white"]))
        panel.get_by_text("Crop the photograph").click()
        visit.settle()
        session = visit.page.context.new_cdp_session(visit.page)
        session.send("Runtime.evaluate", {"expression": AXE.read_text()})
        violations = visit.page.evaluate("async () => (await axe.run()).violations")
        assert [
            f"{fault['id']}: {node['html']}"
            for fault in violations
            if fault["impact"] in ("serious", "critical")
            for node in fault["nodes"]
        ] == []
