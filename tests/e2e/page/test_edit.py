"""The panel Edit."""

from playwright.sync_api import Route, expect

from tests.e2e.page.visits import Visit, expect_other_pixels, pixels, set_slider


def test_directions_move_the_car_and_can_be_taken_back(visit: Visit) -> None:
    panel = visit.open("edit?car=3-0")
    picture = visit.part("edit", "picture")
    sliders = panel.get_by_role("slider")
    expect(sliders).to_have_count(8)
    plain = pixels(picture)
    set_slider(sliders.nth(0), 2)
    expect_other_pixels(picture, plain)
    once = pixels(picture)
    set_slider(sliders.nth(1), -3)
    expect_other_pixels(picture, once)
    visit.expect_address("edit.car=3-0&by=2,-3,0,0,0,0,0,0")
    panel.get_by_role("button", name="Undo").click()
    visit.settle()
    assert pixels(picture) == once
    panel.get_by_role("button", name="Reset").click()
    visit.settle()
    assert pixels(picture) == plain
    panel.get_by_role("button", name="Undo").click()
    panel.get_by_role("button", name="Undo").click()
    expect(panel.get_by_role("button", name="Undo")).to_be_disabled()
    visit.expect_address("edit.car=3-0")
    visit.open("edit?car=3-0&by=2")
    assert pixels(picture) == once


def test_a_slider_asks_when_it_rests_and_the_last_place_wins(visit: Visit) -> None:
    visit.open("edit?car=3-0")
    held: list[Route] = []
    visit.page.route("**/decode.webp", lambda route: route.continue_() if held else held.append(route))
    slider = visit.panel("edit").get_by_role("slider").first
    asked = visit.asked("/decode.webp")
    with visit.page.expect_request("**/decode.webp") as first:
        set_slider(slider, 0.5, 1, 1.5, 2)
    assert visit.asked("/decode.webp") == asked + 1
    set_slider(slider, 2.5)
    with visit.page.expect_request("**/decode.webp") as last:
        visit.page.wait_for_timeout(300)
        held[0].continue_()
    visit.settle()
    assert visit.asked("/decode.webp") == asked + 2
    assert first.value.post_data != last.value.post_data
    shown = pixels(visit.part("edit", "picture"))
    visit.open("edit?car=3-0&by=2.5")
    assert pixels(visit.part("edit", "picture")) == shown


def test_an_edited_car_can_be_compared_and_kept(visit: Visit) -> None:
    panel = visit.open("edit?car=3-0&by=2")
    panel.get_by_role("button", name="Keep it").click()
    expect(visit.page.locator("#garage img")).to_have_attribute("alt", "Car 1 of seed 3, edited")
    panel.get_by_role("button", name="Interpolate from before to after").click()
    stops = visit.part("interpolate", "stops").get_by_role("button")
    expect(stops).to_have_count(2)
    expect(stops.nth(1)).to_have_accessible_name("Car 2: Car 1 of seed 3, edited")
