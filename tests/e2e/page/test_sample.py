"""The panel Sample, and the cars that are kept."""

import re

from playwright.sync_api import expect

from tests.e2e.page.visits import Visit, set_slider


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


LATE = """
addEventListener("close", (event) => {
    if (!event.isTrusted) return;
    event.stopImmediatePropagation();
    setTimeout(() => event.target.dispatchEvent(new Event("close")), 500);
}, true);
"""
"""Closing a dialog is told long after it, as on a busy machine."""


def test_a_choice_holds_when_the_next_car_is_opened_at_once(visit: Visit) -> None:
    visit.page.add_init_script(LATE)
    visit.open("sample?seed=7")
    dialog = visit.page.locator("dialog#car")
    for number, choice in ((2, "Keep it"), (3, None), (5, "Keep it"), (4, "Edit it")):
        visit.page.get_by_role("button", name=f"Car {number} of seed 7", exact=True).first.click()
        expect(dialog).to_be_visible()
        if choice:
            dialog.get_by_role("button", name=choice).click()
        else:
            visit.page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
    visit.expect_address("edit.car=7-3")
    visit.settle()
    names = [image.get_attribute("alt") for image in visit.page.locator("#garage img").all()]
    assert names == ["Car 2 of seed 7", "Car 5 of seed 7"]


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


def test_a_temperature_asks_when_it_rests(visit: Visit) -> None:
    visit.open("sample?seed=7")
    asked = visit.asked("/sample.webp")
    with visit.page.expect_request("**/sample.webp?*") as last:
        set_slider(visit.part("sample", "temperature"), *(tenths / 10 for tenths in range(10)))
    visit.settle()
    assert visit.asked("/sample.webp") == asked + 1
    assert last.value.url.endswith("temperature=0.9")
