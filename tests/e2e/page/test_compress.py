"""The panel Compress: a car as a code, at each number of bytes, beside the original and other formats."""

import io
import re
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Route, expect

from tests.e2e.page.compress import (
    STOPS,
    add_formats,
    client,
    codes_of,
    of_url,
    open_compress,
    part,
    picture,
    shown,
)
from tests.e2e.page.visits import AXE, DESKTOP, PHONE, REFUSED, Open, set_slider

__all__ = ["client"]


def test_it_opens_on_a_drawn_car_and_one_request_brings_all_stops(
    visiting: Open, client: httpx.Client
) -> None:
    with visiting() as visit:
        add_formats(visit.page)
        visit.page.goto(visit.root)
        visit.settle()
        visit.panel("compress")
        asked = [urlsplit(each.url).path for each in visit.requests if "/static/" not in each.url]
        asked = [path for path in asked if path.startswith("/")]
        assert sorted(set(asked)) == ["/", "/compress.json", "/model", "/sample.json"]
        assert asked.count("/compress.json") == asked.count("/sample.json") == 1
        latents = client.get("/sample.json?seed=28").json()["latents"]
        expected = client.post(
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
        visit.expect_address(r"compress\?car=28-0&bytes=400&model=tiny-vae/1")


def test_the_address_of_a_drawn_car_holds_it_and_its_bytes(visiting: Open) -> None:
    with visiting() as visit:
        open_compress(visit, "compress?car=5-0&bytes=48")
        code = part(visit, "code").text_content()
        assert part(visit, "size").input_value() == "2"
        with visit.page.expect_response("**/compress.json?*"):
            visit.panel("compress").get_by_role("button", name="Try a drawn car").click()
        visit.settle()
        assert part(visit, "code").text_content() != code
        assert part(visit, "size").input_value() == "2"
        visit.expect_address(r"compress\?car=\d+-0&bytes=48&.*")


def test_the_divider_is_a_slider_over_both_pictures(visiting: Open, client: httpx.Client) -> None:
    with visiting() as visit:
        panel = open_compress(visit)
        file = picture((250, 20, 20))
        with visit.page.expect_response("**/compress.json?*"):
            part(visit, "file").set_input_files(file)
        visit.settle()
        item = codes_of(client, file)
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
        assert np.abs(middle() - (250, 20, 20)).max() < 9
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


def test_a_portrait_stays_one(visiting: Open, client: httpx.Client) -> None:
    with visiting() as visit:
        open_compress(visit)
        file = picture(["navy", "white", "navy"], 200, 400)
        with visit.page.expect_response("**/compress.json?*"):
            part(visit, "file").set_input_files(file)
        visit.settle()
        left, top, right, bottom = codes_of(client, file)["box"]
        assert right - left < bottom - top
        for element in (part(visit, "compare"), part(visit, "tiles").locator("img").first):
            box = element.bounding_box()
            assert box is not None
            assert box["width"] / box["height"] == pytest.approx((right - left) / (bottom - top), rel=0.02)


def test_other_formats_stand_beside_it(visiting: Open) -> None:
    with visiting() as visit:
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


# when things go wrong


def test_the_last_of_two_photographs_is_shown(visiting: Open, client: httpx.Client) -> None:
    with visiting() as visit:
        open_compress(visit)
        held: list[Route] = []

        def hold(route: Route) -> None:
            route.fallback() if held else held.append(route)

        visit.page.route("**/compress.json?*", hold)
        with visit.page.expect_request("**/compress.json?*"):
            part(visit, "file").set_input_files(picture("black"))
        part(visit, "file").set_input_files(picture("white"))
        with visit.page.expect_response("**/compress.json?*"):
            held[0].fallback()
        visit.settle()
        assert visit.asked("/compress.json") == 3, "a drawn car, and each of the two"
        assert shown(part(visit, "original")).min() > 235
        light = client.get("/decode.png", params={"code": part(visit, "code").text_content() or ""}).content
        with Image.open(io.BytesIO(light)) as image:
            expected = np.asarray(image.convert("RGB")).mean(axis=(0, 1))
        assert np.abs(shown(part(visit, "decoded")).mean(axis=(0, 1)) - expected).max() < 4


def test_a_lost_service_is_one_message_with_retry(visiting: Open) -> None:
    with visiting(forgiven="ERR_FAILED") as visit:
        visit.page.route("**/compress.json?*", lambda route: route.abort())
        visit.page.goto(visit.root)
        panel = visit.panel("compress")
        expect(panel.get_by_role("alert")).to_have_count(1)
        expect(panel.get_by_role("alert")).to_contain_text("cannot be reached")
        expect(part(visit, "compare")).to_be_visible()
        visit.page.unroute("**/compress.json?*")
        add_formats(visit.page)
        panel.get_by_role("button", name="Retry").click()
        expect(part(visit, "decibels")).to_contain_text("dB")
        expect(panel.get_by_role("alert")).to_have_count(0)


def test_a_file_that_is_no_picture_leaves_the_car_that_is_there(visiting: Open) -> None:
    with visiting(forgiven=f"{REFUSED}415") as visit:
        panel = open_compress(visit)
        code = part(visit, "code").text_content() or ""
        visit.page.unroute("**/compress.json?*")
        visit.page.route("**/compress.json?*", lambda route: route.fulfill(status=415, json={"detail": ""}))
        part(visit, "file").set_input_files(
            {"name": "car.txt", "mimeType": "text/plain", "buffer": b"no picture"}
        )
        expect(panel.get_by_role("alert")).to_contain_text("not a kind of picture")
        expect(part(visit, "code")).to_have_text(code)


# for everyone


def test_it_works_on_a_phone(visiting: Open) -> None:
    with visiting(viewport=PHONE, is_mobile=True, has_touch=True, device_scale_factor=2) as visit:
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


def test_all_of_it_by_keyboard(visiting: Open) -> None:
    with visiting() as visit:
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
def test_nothing_serious_for_axe(visiting: Open, colours: str) -> None:
    options: dict[str, Any] = {"color_scheme": "dark" if colours == "dark" else "light"}
    options["viewport"] = DESKTOP if colours == "light" else PHONE
    if colours == "forced":
        options["forced_colors"] = "active"
    with visiting(**options) as visit:
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
