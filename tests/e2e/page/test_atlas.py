"""What the page makes of a model's atlas: directions with names, the pad, the map, what is no car."""

import base64
import io
import re
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import FilePayload, Locator, ViewportSize, expect

from tests.e2e.conftest import serving
from tests.e2e.page.visits import AXE, DESKTOP, PHONE, Open, Visit, expect_other_pixels, pixels, set_slider

OF_MODEL = "(&model=car-vae/3)?"
DASH, SIGMA = "\N{EN DASH}", "\N{GREEK SMALL LETTER SIGMA}"
NAMES = [
    f"{name}: {low} {DASH} {high}"
    for name, low, high in (
        ("Paint", "dark", "light"),
        ("Paint", "green", "red"),
        ("Paint", "blue", "yellow"),
        ("Background", "dark", "bright"),
        ("Ground", "dark", "bright"),
        ("Surroundings", "cold", "warm"),
        ("Light", "from the left", "from the right"),
        ("Windows", "dark", "bright"),
        ("Shape", "low", "tall"),
        ("Facing", "right", "left"),
    )
]
PAINT_LIGHT, PAINT_RED, PAINT_YELLOW = 8, 9, 10
"""Their places behind the principal directions."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of the service that runs the model that ships, which has an atlas."""
    with serving(None, tmp_path_factory.mktemp("log") / "service.log") as client:
        yield client


def shown(canvas: Locator) -> NDArray[np.float64]:
    """(height, width, 3) of what a canvas shows."""
    image = Image.open(io.BytesIO(base64.b64decode(pixels(canvas).partition(",")[2])))
    return np.asarray(image.convert("RGB"), np.float64)


def middle(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean colour of what is the car's side."""
    height, width, _ = image.shape
    mean: NDArray[np.float64] = image[height // 2 : 2 * height // 3, width // 4 : 3 * width // 4].mean((0, 1))
    return mean


def by(**amounts: float) -> str:
    """The fragment of an edit by some named directions."""
    values = ["0"] * 18
    for name, amount in amounts.items():
        values[{"light": PAINT_LIGHT, "red": PAINT_RED, "yellow": PAINT_YELLOW}[name]] = f"{amount:g}"
    return ",".join(values)


def test_directions_are_named_and_do_what_they_are_named_after(visit: Visit) -> None:
    panel = visit.open("edit?car=43-0")
    sliders = panel.locator("input[type=range]").locator("visible=true")
    expect(sliders).to_have_count(len(NAMES))
    for slider, name in zip(sliders.all(), NAMES, strict=True):
        expect(slider).to_have_accessible_name(name)
    for image in panel.locator(".direction img").locator("visible=true").all():
        expect(image).to_have_attribute("src", re.compile("^data:image/png"))
    picture = visit.part("edit", "picture")
    plain = pixels(picture)
    colours = []
    for value in (-3, 3):
        set_slider(panel.get_by_label(NAMES[0]), value)
        expect_other_pixels(picture, plain)
        visit.settle()
        colours.append(middle(shown(picture)).mean())
        visit.expect_address(f"edit.car=43-0&by={by(light=value)}{OF_MODEL}")
    assert colours[1] > colours[0] + 60
    expect(panel.get_by_label(NAMES[0])).to_have_attribute("aria-valuetext", f"3.0 {SIGMA} towards light")


def test_those_without_names_are_folded_away(visit: Visit) -> None:
    panel = visit.open("edit?car=43-0")
    sliders = panel.locator("input[type=range]").locator("visible=true")
    panel.get_by_text("8 more, without names").click()
    expect(sliders).to_have_count(18)
    visit.settle()
    expect(panel.get_by_label("Direction 8")).to_be_visible()
    images = panel.locator(".direction img")
    expect(images).to_have_count(36)
    for image in images.all():
        expect(image).to_have_attribute("src", re.compile("^data:image/png"))
    visit.open("edit?car=43-0&by=2")
    expect(sliders).to_have_count(18)
    expect(panel.get_by_label("Direction 1")).to_have_value("2")


def test_the_pad_moves_two_directions_by_keyboard(visit: Visit) -> None:
    panel = visit.open("edit?car=43-0")
    handle = panel.get_by_role("slider", name="Two at once")
    handle.focus()
    for key in ("Shift+ArrowRight", "Shift+ArrowRight", "ArrowUp", "Shift+ArrowDown"):
        visit.page.keyboard.press(key)
    visit.expect_address(f"edit.car=43-0&by={by(red=2, yellow=-0.9)}{OF_MODEL}")
    expect(panel.get_by_label(NAMES[1])).to_have_value("2")
    expect(panel.get_by_label(NAMES[2])).to_have_value("-0.9")
    expect(handle).to_have_attribute(
        "aria-valuetext",
        f"{NAMES[1]}, 2.0 {SIGMA} towards red; {NAMES[2]}, 0.9 {SIGMA} towards blue",
    )
    for _ in range(3):
        visit.page.keyboard.press("Shift+ArrowRight")
    expect(panel.get_by_label(NAMES[1])).to_have_value("3")
    panel.get_by_role("button", name="Undo").click()
    expect(panel.get_by_label(NAMES[1])).to_have_value("2")
    handle.focus()
    visit.page.keyboard.press("Home")
    visit.expect_address(f"edit.car=43-0{OF_MODEL}")


def test_the_pad_follows_the_pointer_and_takes_other_directions(visit: Visit) -> None:
    panel = visit.open("edit?car=43-0")
    plane = panel.locator(".pad-plane canvas")
    behind = pixels(plane)
    box = plane.bounding_box()
    assert box is not None
    x, y = box["x"], box["y"]
    visit.page.mouse.move(x + box["width"] / 2, y + box["height"] / 2)
    visit.page.mouse.down()
    visit.page.mouse.move(x + box["width"] * 2, y + box["height"] / 4, steps=4)
    visit.page.mouse.up()
    visit.expect_address(f"edit.car=43-0&by={by(red=3, yellow=1.5)}{OF_MODEL}")
    visit.settle()
    red, green, blue = middle(shown(visit.part("edit", "picture")))
    assert red > green + 40
    assert red > blue + 40
    panel.get_by_label("Across").select_option(NAMES[0])
    expect_other_pixels(plane, behind)
    expect(panel.get_by_role("slider", name="Two at once")).to_have_attribute(
        "aria-valuetext", re.compile(f"^{NAMES[0]}, as it is; {NAMES[2]}, 1.5 {SIGMA}")
    )
    panel.get_by_label("Across").select_option(NAMES[2])
    expect(panel.get_by_label("Up")).to_have_value(str(PAINT_LIGHT))


def seeds_of(client: httpx.Client) -> NDArray[np.int64]:
    return np.array(client.get("/model").json()["map"]["seeds"])


def test_the_map_is_wandered_over_with_the_keyboard(visit: Visit, client: httpx.Client) -> None:
    seeds = seeds_of(client)
    panel = visit.open("map?at=31")
    focused = visit.page.locator(":focus")
    panel.get_by_role("button", name="Car 31", exact=True).focus()
    for key, name in (("ArrowRight", "32"), ("ArrowDown", "57"), ("ArrowLeft", "56"), ("ArrowUp", "31")):
        visit.page.keyboard.press(key)
        expect(focused).to_have_accessible_name(f"Car {name}")
        expect(focused).to_be_in_viewport()
    for _ in range(3):
        visit.page.keyboard.press("ArrowUp")
    expect(focused).to_have_accessible_name("Car 6")
    visit.expect_address(f"map.at=6{OF_MODEL}")
    expect(panel.get_by_role("gridcell").locator("button[tabindex='0']")).to_have_count(1)
    visit.page.keyboard.press("Enter")
    dialog = visit.page.locator("dialog#car")
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name="Edit it").click()
    visit.expect_address(f"edit.car={seeds.ravel()[5]}-0{OF_MODEL}")


def test_a_car_of_the_map_is_the_one_that_is_drawn(visit: Visit, client: httpx.Client) -> None:
    seed = int(seeds_of(client)[0, 0])
    visit.open("map?at=1").get_by_role("button", name="Car 1", exact=True).click()
    expect(visit.page.locator("dialog#car")).to_be_visible()
    opened = shown(visit.page.locator("dialog#car canvas"))
    file = client.get(f"/sample.png?seed={seed}").content
    size = opened.shape[1], opened.shape[0]
    drawn = np.asarray(Image.open(io.BytesIO(file)).convert("RGB").resize(size, Image.Resampling.BICUBIC))
    assert np.abs(opened - drawn).mean() < 8


def pick(visit: Visit, number: int, choice: str) -> None:
    """Open a car of the map, and choose what to do with it."""
    visit.page.get_by_role("link", name="Map", exact=True).click()
    visit.panel("map").get_by_role("button", name=f"Car {number}", exact=True).click()
    visit.page.locator("dialog#car").get_by_role("button", name=choice).click()


def add_to_the_path(visit: Visit, number: int) -> None:
    pick(visit, number, "Add to the path")


def test_cars_of_the_map_are_added_to_the_path(visit: Visit, client: httpx.Client) -> None:
    first, second, third = (f"{seed}-0" for seed in seeds_of(client).ravel()[:3])
    visit.open("map?at=1")
    for number, path in ((1, rf"{first},\d+-0"), (2, f"{first},{second}"), (3, f"{first},{second},{third}")):
        add_to_the_path(visit, number)
        visit.expect_address(f"interpolate.cars={path}(&at=[.\\d]+)?")
        visit.page.go_back()
    visit.page.go_forward()
    visit.settle()
    names = [
        stop.get_attribute("aria-label")
        for stop in visit.part("interpolate", "stops").locator("button").all()
    ]
    assert names == [
        f"Car {place}: Car 1 of seed {car[:-2]}" for place, car in enumerate((first, second, third), 1)
    ]


@pytest.mark.parametrize("before", ["map", "interpolate"], ids=["no path yet", "the path as it opens"])
def test_cars_that_nobody_chose_give_way(visit: Visit, client: httpx.Client, before: str) -> None:
    first, second = (f"{seed}-0" for seed in seeds_of(client).ravel()[:2])
    for choice in ("Interpolate from it", "Add to the path"):
        visit.open(before)
        pick(visit, 1, choice)
        visit.expect_address(rf"interpolate.cars={first},\d+-0(&at=1)?")
        add_to_the_path(visit, 2)
        visit.expect_address(f"interpolate.cars={first},{second}&at=1")


def test_the_stops_of_a_path_stay_when_one_is_added(visit: Visit, client: httpx.Client) -> None:
    first, second = (f"{seed}-0" for seed in seeds_of(client).ravel()[:2])
    visit.open("interpolate?cars=3-0,8-0")
    add_to_the_path(visit, 1)
    visit.expect_address(f"interpolate.cars=3-0,8-0,{first}&at=1")
    visit.open("map")
    pick(visit, 1, "Interpolate from it")
    visit.panel("interpolate").get_by_role("button", name="Add a sample").click()
    visit.expect_address(rf"interpolate.cars={first},\d+-0,\d+-0(&at=1)?")
    add_to_the_path(visit, 2)
    visit.expect_address(rf"interpolate.cars={first},\d+-0,\d+-0,{second}&at=1")


def test_a_path_has_an_end(visit: Visit) -> None:
    path = ",".join(f"{seed}-0" for seed in range(16))
    visit.open(f"interpolate?cars={path}")
    add_to_the_path(visit, 1)
    expect(visit.page.locator("#notice")).to_have_text("The path has 16 cars, which is the most.")
    visit.expect_address(f"interpolate.cars={path}")
    expect(visit.part("interpolate", "stops").locator("button")).to_have_count(16)


def test_the_map_is_dragged_and_zoomed(visit: Visit) -> None:
    panel = visit.open("map?at=263")
    visit.settle()
    view = panel.locator(".map")
    places = "view => [view.scrollLeft, view.scrollTop]"
    left, top = view.evaluate(places)
    box = view.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    visit.page.mouse.move(x, y)
    visit.page.mouse.down()
    visit.page.mouse.move(x - 60, y + 40, steps=3)
    visit.page.mouse.up()
    assert view.evaluate(places) == [pytest.approx(left + 60, abs=1), pytest.approx(top - 40, abs=1)]
    expect(visit.page.locator("dialog#car")).to_be_hidden()
    car = panel.get_by_role("button", name="Car 263", exact=True)
    zoom_in, zoom_out = (panel.get_by_role("button", name=name) for name in ("Zoom in", "Zoom out"))
    before = car.bounding_box()
    zoom_in.click()
    after = car.bounding_box()
    assert before is not None
    assert after is not None
    assert after["width"] > before["width"] * 1.2
    for _ in range(8):
        if zoom_in.is_enabled():
            zoom_in.click()
    expect(zoom_in).to_be_disabled()
    expect(zoom_out).to_be_enabled()
    car.focus()
    for _ in range(8):
        visit.page.keyboard.press("-")
    expect(zoom_out).to_be_disabled()


def test_a_map_that_does_not_come_can_be_asked_for_again(visiting: Open) -> None:
    with visiting(forgiven="ERR_FAILED") as visit:
        visit.page.route("**/map.webp*", lambda route: route.abort())
        panel = visit.open("map")
        expect(panel.get_by_role("alert")).to_be_visible()
        visit.page.unroute("**/map.webp*")
        panel.get_by_role("button", name="Retry").click()
        expect(panel.locator("canvas[data-drawn]")).to_be_attached()
        expect(panel.get_by_role("alert")).to_have_count(0)


def noise_file() -> FilePayload:
    """Noise, which is no car."""
    noise = np.random.RandomState(0).randint(0, 256, (64, 96, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((480, 320), Image.Resampling.BICUBIC).save(file, "JPEG", quality=92)
    return {"name": "noise.jpg", "mimeType": "image/jpeg", "buffer": file.getvalue()}


def test_what_is_no_car_is_said(visit: Visit, client: httpx.Client) -> None:
    panel = visit.open("reconstruct")
    remark = panel.get_by_text("This does not look like a car to the model.")
    visit.part("reconstruct", "file").set_input_files(noise_file())
    expect(remark).to_be_visible()
    car = client.get("/sample.png?seed=43&size=480").content
    visit.part("reconstruct", "file").set_input_files(
        {"name": "car.png", "mimeType": "image/png", "buffer": car}
    )
    expect(remark).to_be_hidden()
    visit.open("interpolate?cars=3-0,8-0")
    visit.part("interpolate", "photo").set_input_files(noise_file())
    expect(visit.page.locator("#notice")).to_contain_text("This does not look like a car to the model.")


def test_it_works_on_a_phone(visiting: Open) -> None:
    with visiting(viewport=PHONE, is_mobile=True, has_touch=True, device_scale_factor=2) as visit:
        visit.open("map?at=31")
        visit.settle()
        visit.page.get_by_role("button", name="Car 31", exact=True).tap()
        visit.page.locator("dialog#car").get_by_role("button", name="Edit it").tap()
        panel = visit.panel("edit")
        visit.settle()
        plain = pixels(visit.part("edit", "picture"))
        panel.locator(".pad-plane").tap(position={"x": 30, "y": 30})
        expect_other_pixels(visit.part("edit", "picture"), plain)
        for name in ("map", "edit"):
            visit.page.get_by_role("link", name=name.capitalize(), exact=True).tap()
            visit.panel(name)
            assert visit.page.evaluate("() => document.documentElement.scrollWidth") == PHONE["width"], name
            for control in visit.panel(name).locator("button, summary, select, input").all()[:60]:
                box = control.bounding_box() if control.is_visible() else None
                assert box is None or (box["height"] >= 24 and box["width"] >= 24)


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed: npm install --prefix tests/e2e")
@pytest.mark.parametrize(("scheme", "viewport"), [("light", DESKTOP), ("dark", PHONE)], ids=["light", "dark"])
def test_nothing_serious_for_axe(visiting: Open, scheme: str, viewport: ViewportSize) -> None:
    with visiting(color_scheme=scheme, viewport=viewport) as visit:
        visit.open("map")
        session = visit.page.context.new_cdp_session(visit.page)
        session.send("Runtime.evaluate", {"expression": AXE.read_text()})
        for name in ("map", "edit"):
            visit.page.get_by_role("link", name=name.capitalize(), exact=True).click()
            visit.panel(name)
            visit.settle()
            if name == "edit":
                visit.page.get_by_text("8 more, without names").click()
                visit.settle()
            found = visit.page.evaluate("async () => (await axe.run()).violations")
            serious = [
                f"{fault['id']}: {node['html']}"
                for fault in found
                if fault["impact"] in ("serious", "critical")
                for node in fault["nodes"]
            ]
            assert serious == [], name
