"""Nothing fails silently: bad pictures, a service that is busy or lost, damaged links and storage."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, FilePayload, Route, expect

from tests.e2e.conftest import serving
from tests.e2e.page.visits import (
    REFUSED,
    Open,
    Visit,
    car_file,
    expect_other_pixels,
    pixels,
    set_slider,
    tiff_file,
    watched,
)

KEY = "a key of twenty signs"
DAMAGED = "This link is damaged"


@pytest.fixture(scope="module")
def strict_service(trained_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service that asks for a key, and is too busy for anything as large as a photograph."""
    log = tmp_path_factory.mktemp("strict") / "service.log"
    with serving(trained_model, log, api_keys=KEY, max_held_bytes="4096") as client:
        yield str(client.base_url).rstrip("/")


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (car_file()["buffer"][:400], 400, "cannot be read: it is damaged or incomplete"),
        (b"no picture at all", 415, "not a kind of picture the service reads. JPEG, PNG"),
    ],
)
def test_a_bad_picture_is_explained(visiting: Open, content: bytes, status: int, words: str) -> None:
    with visiting(forgiven=f"{REFUSED}{status}") as visit:
        visit.open("reconstruct")
        payload: FilePayload = {"name": "car.jpg", "mimeType": "image/jpeg", "buffer": content}
        visit.part("reconstruct", "file").set_input_files(payload)
        alert = visit.panel("reconstruct").get_by_role("alert")
        expect(alert).to_contain_text(words)
        visit.part("reconstruct", "file").set_input_files(car_file())
        expect(visit.part("reconstruct", "psnr")).to_contain_text("dB")
        expect(alert).to_have_count(0)


def test_a_busy_service_is_asked_again_when_it_says(visiting: Open) -> None:
    with visiting(forgiven=f"{REFUSED}429") as visit:

        def refuse(route: Route) -> None:
            route.fulfill(status=429, headers={"Retry-After": "1"}, json={"detail": "the queue is full"})

        visit.page.route("**/sample.webp?*", refuse, times=1)
        visit.page.goto(f"{visit.root}/#sample?seed=7")
        expect(visit.page.locator("#notice")).to_contain_text("The service is busy. Trying again in")
        expect(visit.part("sample", "wall").locator("img")).to_have_count(24)
        assert visit.asked("/sample.webp") == 2


def test_a_lost_service_is_explained(visiting: Open) -> None:
    with visiting(forgiven="ERR_FAILED") as visit:
        visit.open("sample?seed=7")
        visit.page.route("**/sample.webp?*", lambda route: route.abort())
        visit.panel("sample").get_by_role("button", name="Draw new cars").click()
        expect(visit.panel("sample").get_by_role("alert")).to_contain_text("cannot be reached")


def test_a_key_is_asked_for_and_a_full_service_gives_up(visiting: Open, strict_service: str) -> None:
    with visiting(strict_service, forgiven=f"{REFUSED}(401|429)") as visit:
        visit.page.goto(f"{visit.root}/#sample?seed=7")
        dialog, tiles = visit.page.locator("dialog#key"), visit.part("sample", "wall").locator("img")
        expect(dialog).to_be_visible()
        dialog.get_by_label("API key").fill("a wrong one")
        visit.page.keyboard.press("Enter")
        expect(dialog).to_contain_text("The key that was sent is not known")
        expect(tiles).to_have_count(0)
        dialog.get_by_label("API key").fill(KEY)
        dialog.get_by_role("button", name="Use it").click()
        expect(tiles).to_have_count(24)
        visit.page.get_by_text("The request behind this").locator("visible=true").click()
        expect(visit.panel("sample").locator("pre")).to_contain_text("$CAR_VAE_KEY")
        assert KEY not in visit.page.content()
        visit.page.get_by_role("link", name="Reconstruct").click()
        visit.part("reconstruct", "file").set_input_files(tiff_file())
        expect(visit.page.locator("#notice")).to_contain_text("The service is busy")
        alert = visit.panel("reconstruct").get_by_role("alert")
        expect(alert).to_contain_text("very busy")
        visit.page.get_by_role("button", name="Forget the key").click()
        visit.page.get_by_role("link", name="Sample").click()
        visit.panel("sample").get_by_role("button", name="Draw new cars").click()
        expect(dialog).to_be_visible()
        visit.page.keyboard.press("Escape")
        expect(visit.panel("sample").get_by_role("alert")).to_contain_text("needs an API key")


def test_a_failure_stays_until_its_work_is_done(visiting: Open) -> None:
    """The ends of the sliders fail, the car itself does not: its success does not hide that."""
    with visiting(forgiven="ERR_FAILED") as visit:
        broken = True

        def fail_ends(route: Route) -> None:
            latents = json.loads(route.request.post_data or "")["latents"]
            route.abort() if broken and len(latents) > 1 else route.continue_()

        visit.page.route("**/decode.webp", fail_ends)
        panel = visit.open("edit?car=3-0")
        alert = panel.get_by_role("alert")
        expect(alert).to_contain_text("cannot be reached")
        set_slider(panel.get_by_role("slider").first, 2)
        visit.expect_address("edit.car=3-0&by=2.*")
        visit.settle()
        expect(alert).to_contain_text("cannot be reached")
        broken = False
        panel.get_by_role("button", name="Retry").click()
        expect(alert).to_have_count(0)
        expect(panel.get_by_role("heading", level=1)).to_be_focused()


def test_a_request_that_is_never_answered_ends(visiting: Open) -> None:
    with visiting(forgiven="ERR_") as visit:
        visit.page.clock.install()
        visit.open("edit?car=3-0")
        panel = visit.panel("edit")
        visit.page.route("**/decode.webp", lambda _: None)
        plain = pixels(visit.part("edit", "picture"))
        with visit.page.expect_request("**/decode.webp"):
            set_slider(panel.get_by_role("slider").first, 2)
        visit.page.clock.fast_forward(31_000)
        expect(panel.get_by_role("alert")).to_contain_text("not answered in time")
        visit.page.unroute("**/decode.webp")
        panel.get_by_role("button", name="Retry").click()
        expect_other_pixels(visit.part("edit", "picture"), plain)
        expect(panel.get_by_role("alert")).to_have_count(0)


def test_a_service_that_comes_back_is_found_again(visiting: Open) -> None:
    with visiting(forgiven="ERR_FAILED") as visit:
        visit.page.clock.install()
        visit.page.route("**/model", lambda route: route.abort())
        visit.page.goto(f"{visit.root}/#sample?seed=7")
        alert = visit.page.get_by_role("alert")
        expect(alert).to_contain_text("cannot be reached")
        visit.page.unroute("**/model")
        visit.page.clock.fast_forward(6_000)
        expect(visit.part("sample", "wall").get_by_role("img")).to_have_count(24)
        expect(alert).to_have_count(0)


def test_a_part_of_the_page_that_does_not_come_is_named(visiting: Open) -> None:
    with visiting(forgiven="ERR_FAILED") as visit:
        visit.page.route("**/panels/edit.js", lambda route: route.abort())
        visit.page.goto(f"{visit.root}/#interpolate")
        expect(visit.page.get_by_role("alert")).to_contain_text("could not be loaded")
        visit.page.unroute("**/panels/edit.js")
        visit.page.get_by_role("button", name="Retry").click()
        visit.panel("interpolate")


def test_no_canvas_is_explained(visiting: Open) -> None:
    with visiting() as visit:
        visit.page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
        visit.page.goto(f"{visit.root}/#edit?car=3-0")
        expect(visit.panel("edit").get_by_role("alert")).to_contain_text("no room left to draw")


@pytest.mark.parametrize(
    ("fragment", "panel"),
    [
        ("interpolate?cars=28-0", "interpolate"),
        ("interpolate?cars=3-0,8-99,x&at=7", "interpolate"),
        ("edit?car=zz", "edit"),
        ("edit?car=3-0&by=99", "edit"),
        ("sample?seed=-1", "sample"),
        ("nowhere", "interpolate"),
    ],
)
def test_a_damaged_link_shows_cars_and_says_so(visit: Visit, fragment: str, panel: str) -> None:
    visit.page.goto(f"{visit.root}/#{fragment}")
    expect(visit.page.get_by_role("status")).to_contain_text(DAMAGED)
    visit.settle()
    if panel == "sample":
        expect(visit.part("sample", "wall").get_by_role("img")).to_have_count(24)
    else:
        shown = visit.part(panel, "picture")
        colours = "canvas => new Set(canvas.getContext('2d').getImageData(0, 0, 99, 66).data).size"
        assert shown.evaluate(colours) > 10


@pytest.mark.parametrize("text", ["{", "[]", '{"model": "car-vae/7", "cars": [null, {"image": 5}]}'])
def test_damaged_storage_is_left_behind(visit: Visit, text: str) -> None:
    visit.open("sample?seed=7")
    visit.page.evaluate("text => localStorage.setItem('car-vae kept', text)", text)
    visit.page.reload()
    expect(visit.page.get_by_role("status")).to_contain_text("kept cars were damaged")
    expect(visit.part("sample", "wall").get_by_role("img")).to_have_count(24)
    visit.page.reload()
    visit.settle()
    expect(visit.page.get_by_role("status")).to_be_empty()


def test_two_tabs_keep_one_another_s_cars(context: BrowserContext, visit: Visit) -> None:
    for other in watched(context.new_page(), visit.root):
        for tab, name in ((visit, "Car 1 of seed 7"), (other, "Car 2 of seed 7")):
            tab.open("sample?seed=7")
            tab.page.get_by_role("button", name=name, exact=True).click()
            tab.page.locator("dialog#car").get_by_role("button", name="Keep it").click()
        for tab in (visit, other):
            expect(tab.page.locator("#garage img")).to_have_count(2)


def test_an_odd_address_does_no_harm(visit: Visit) -> None:
    for fragment in (
        "sample?seed=-1",
        "sample?seed=x&temperature=99&prior=%3Cb%3E",
        "nowhere?%ff",
        "interpolate?cars=3-0,8-99,%3Cb%3E,1-0-9&at=7",
        "edit?car=x&by=a,b",
        "edit?car=3-0&by=99,x,,-1",
    ):
        visit.page.goto("about:blank")
        visit.page.goto(f"{visit.root}/#{fragment}")
        visit.settle()
        expect(visit.page.get_by_role("heading", level=1)).to_be_visible()
        expect(visit.page.get_by_role("alert")).to_have_count(0)
