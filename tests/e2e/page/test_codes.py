"""Codes on the page: given away as links, QR codes and files, and opened again."""

import base64
import io
import json
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import zxingcpp
from PIL import Image
from playwright.sync_api import Page, Route, expect

from tests.e2e.page.compress import STOPS, client, codes_of, open_compress, part, picture, shown
from tests.e2e.page.visits import PHONE, REFUSED, Open, set_slider

__all__ = ["client"]


def test_a_photograph_is_in_no_address_unless_it_is_shared(visiting: Open) -> None:
    with visiting(permissions=["clipboard-read", "clipboard-write"]) as visit:
        panel = open_compress(visit)
        with visit.page.expect_response("**/compress.json?*") as answer:
            part(visit, "file").set_input_files(picture(["black", "white"]))
        code = answer.value.json()["items"][0]["codes"][STOPS.index(94)]
        visit.expect_address("compress")
        expect(part(visit, "code")).to_have_text(code)
        expect(panel.get_by_text("nothing is stored here")).to_be_visible()
        panel.get_by_role("button", name="Copy link").click()
        expect(visit.page.locator("#notice")).to_have_text("Link copied.")
        assert visit.page.evaluate("() => navigator.clipboard.readText()") == f"{visit.root}/c/{code}"
        assert code not in visit.page.url
        assert not any(code in each.url for each in visit.requests)
        panel.get_by_role("button", name="Share").click()
        expect(visit.page).to_have_url(f"{visit.root}/c/{code}")
        set_slider(part(visit, "size"), 5)
        visit.expect_address("compress")


def test_the_code_can_be_taken_home(visiting: Open) -> None:
    with visiting() as visit:
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
            assert (image.format, image.size) == ("PNG", (1152, 768))


@pytest.mark.parametrize("stop", [24, 94, 400])
def test_the_qr_code_is_the_link(visiting: Open, stop: int) -> None:
    with visiting(viewport=PHONE) as visit:
        panel = open_compress(visit, "compress?car=3-0")
        set_slider(part(visit, "size"), STOPS.index(stop))
        assert not any(each.url.endswith("compress/qr.js") for each in visit.requests)
        button = panel.get_by_role("button", name="QR code")
        button.click()
        code = panel.get_by_role("img", name="QR code of the link to this car")
        with Image.open(io.BytesIO(code.screenshot())) as image:
            (found,) = zxingcpp.read_barcodes(image)
        assert found.text == f"{visit.root}/c/{part(visit, 'code').text_content()}"
        button.click()
        expect(code).to_be_hidden()


def test_qr_codes_of_every_size_are_read(visiting: Open) -> None:
    lengths = [int(10 + 2943 * (place / 47) ** 2) for place in range(48)]
    with visiting() as visit:
        open_compress(visit)
        module = visit.page.locator('link[href$="panels/compress.js"]').get_attribute("href") or ""
        address = f"{visit.root}/{module.replace('panels/compress.js', 'compress/qr.js')}"
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
        (barcode,) = zxingcpp.read_barcodes(image)
        assert barcode.text == text
        versions.add((len(rows) - 17) // 4)
    assert {1, 40} < versions
    assert len(versions) > 30
    assert most == "RangeError"


def serve_codes(page: Page, client: httpx.Client) -> None:
    """The picture of a code at its address."""

    def fulfil(route: Route) -> None:
        code = urlsplit(route.request.url).path.split("/c/")[1].removesuffix(".webp")
        answer = client.get("/decode.webp", params={"code": code})
        route.fulfill(status=answer.status_code, headers=dict(answer.headers), body=answer.content)

    page.route("**/c/*.webp", fulfil)


@pytest.mark.parametrize("way", ["hash", "paste", "paste a link"])
def test_a_code_is_opened(visiting: Open, client: httpx.Client, way: str) -> None:
    item = codes_of(client, picture(["black", "white"]))
    code, length = item["codes"][STOPS.index(192)], item["bytes"][STOPS.index(192)]
    with visiting() as visit:
        serve_codes(visit.page, client)
        panel = open_compress(visit, f"compress?code={code}" if way == "hash" else "compress?car=3-0")
        if way != "hash":
            given = code if way == "paste" else f" {visit.root}/c/{code}\n"
            panel.get_by_label("A code, or a link with one").fill(given)
            visit.page.keyboard.press("Enter")
        expect(part(visit, "title")).to_have_text(f"This car is {length} bytes")
        expect(part(visit, "code")).to_have_text(code)
        expect(part(visit, "decibels")).to_have_text("As it came")
        expect(visit.page).to_have_url(f"{visit.root}/c/{code}")
        assert int(part(visit, "size").get_attribute("max") or 0) == len(
            [stop for stop in STOPS if stop < length]
        )
        whole = client.get("/decode.png", params={"code": code}).content
        with Image.open(io.BytesIO(whole)) as image:
            expected = np.asarray(image.convert("RGB")).mean(axis=(0, 1))
        assert np.abs(shown(part(visit, "decoded")).mean(axis=(0, 1)) - expected).max() < 4
        set_slider(part(visit, "size"), 0)
        expect(part(visit, "decibels")).to_contain_text("dB")
        visit.expect_address(f"compress.code={code}&bytes=24&.*")


@pytest.mark.parametrize("way", ["link", "paste"])
@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [("damaged", 400, "This code is damaged"), ("foreign", 409, "This code is of another model")],
)
def test_a_code_that_is_none_shows_no_other_car(
    visiting: Open, client: httpx.Client, way: str, kind: str, status: int, words: str
) -> None:
    good = codes_of(client, picture("white"), [24])["codes"][0]
    code = good[:-3] + "AAA" if kind == "damaged" else foreign(good)
    with visiting(forgiven=f"{REFUSED}{status}|preload") as visit:
        serve_codes(visit.page, client)
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
