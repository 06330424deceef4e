"""The panel Interpolate."""

from PIL import Image
from playwright.sync_api import expect

from tests.e2e.page.visits import Open, Visit, car_file, expect_other_pixels, pixels, set_slider


def test_the_slider_moves_from_car_to_car_without_asking(visit: Visit) -> None:
    visit.open("interpolate?cars=3-0,8-0")
    picture, slider = visit.part("interpolate", "picture"), visit.part("interpolate", "position")
    asked = visit.asked("/interpolate.webp")
    seen = set()
    for place in (0, 0.01, 0.5, 0.99, 1):
        set_slider(slider, place)
        seen.add(pixels(picture))
    assert len(seen) == 5, "five places are five pictures at once"
    assert visit.asked("/interpolate.webp") == asked
    expect(visit.part("interpolate", "lambda")).to_have_text("λ = 1.00")
    assert slider.get_attribute("aria-valuetext") == "100 % of the way from car 1 to car 2"
    visit.expect_address("interpolate.cars=3-0,8-0&at=1")


def test_a_finger_on_the_slider_is_followed(visit: Visit) -> None:
    visit.open("interpolate?cars=3-0,8-0")
    slider = visit.part("interpolate", "position")
    box = slider.bounding_box()
    assert box is not None
    visit.page.mouse.move(box["x"] + 10, box["y"] + box["height"] / 2)
    visit.page.mouse.down()
    visit.page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + box["height"] / 2, steps=5)
    assert 0.7 < float(slider.input_value()) < 0.8
    visit.page.mouse.up()


def test_a_path_through_photographs_and_samples(visit: Visit) -> None:
    panel = visit.open("interpolate?cars=3-0,8-0")
    visit.part("interpolate", "photos").set_input_files([car_file(1), car_file(2, 200, 300)])
    stops = visit.part("interpolate", "stops").locator("button")
    expect(stops).to_have_count(4)
    expect(visit.part("interpolate", "private")).to_be_visible()
    visit.expect_address("interpolate")  # without photographs
    panel.get_by_role("button", name="Add a sample").click()
    expect(stops).to_have_count(5)
    before = stops.nth(0).locator("img").get_attribute("src")
    stops.nth(0).click()
    visit.part("interpolate", "photo").set_input_files(car_file(3))
    expect(stops.nth(0).locator("img")).not_to_have_attribute("src", before or "")
    for left in (4, 3, 2):
        panel.get_by_role("button", name="Remove").click()
        expect(stops).to_have_count(left)
    expect(panel.get_by_role("button", name="Remove")).to_be_disabled()


def test_the_method_is_another_path(visit: Visit) -> None:
    panel = visit.open("interpolate?cars=3-0,8-0&at=0.5")
    picture = visit.part("interpolate", "picture")
    linear = pixels(picture)
    panel.get_by_label("Spherical").check()
    expect_other_pixels(picture, linear)
    visit.expect_address(".*method=spherical&at=0.5")
    spherical = pixels(picture)
    visit.page.reload()
    visit.settle()
    assert pixels(picture) == spherical, "the address holds all that is seen"


def test_playing_and_pausing(visit: Visit) -> None:
    panel = visit.open("interpolate?cars=3-0,8-0")
    slider = visit.part("interpolate", "position")
    panel.get_by_role("button", name="Play").click()
    visit.page.wait_for_timeout(0)
    expect(slider).not_to_have_value("0")
    panel.get_by_role("button", name="Pause").click()
    stopped = slider.input_value()
    visit.page.evaluate("() => new Promise(done => setTimeout(done, 100))")
    assert slider.input_value() == stopped
    expect(panel.get_by_role("button", name="Play")).to_be_visible()


def test_the_first_visit_plays_once_unless_motion_is_unwelcome(visiting: Open) -> None:
    with visiting(reduced_motion="no-preference") as visit:
        visit.open("interpolate")
        expect(visit.part("interpolate", "position")).to_have_value("1")
        expect(visit.part("interpolate", "play")).to_have_text("Play")
    with visiting() as visit:
        visit.open("interpolate")
        expect(visit.part("interpolate", "position")).to_have_value("0")


def test_a_path_can_be_saved_in_each_format(visit: Visit) -> None:
    panel = visit.open("interpolate?cars=3-0,8-0,5-0")
    with visit.page.expect_download() as gif:
        panel.get_by_role("button", name="Save as GIF").click()
    with Image.open(gif.value.path()) as animation:
        assert animation.format == "GIF"
        assert animation.size == (288, 192)
        assert animation.n_frames == 33  # type: ignore[attr-defined]
    with visit.page.expect_download() as strip:
        panel.get_by_role("button", name="Save as filmstrip").click()
    with Image.open(strip.value.path()) as film:
        assert film.format == "PNG"
        assert film.size == (13 * 192, 128)
