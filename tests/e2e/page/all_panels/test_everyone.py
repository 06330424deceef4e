"""The page for everyone: by keyboard, on a phone, in dark, with names, focus and few announcements."""

import re
from typing import Any

import pytest
from playwright.sync_api import ViewportSize, expect

from tests.e2e.page.visits import (
    AXE,
    DESKTOP,
    PANELS,
    PHONE,
    Open,
    Visit,
    car_file,
    expect_other_pixels,
    pixels,
    set_slider,
)


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
