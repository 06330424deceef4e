"""Every car in a link, and every picture out of the page: with the model that ships, as it has codes."""

import base64
import io
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, expect

from app.images.quality import psnr
from tests.e2e.conftest import serving
from tests.e2e.page.visits import Open, Visit, car_file, pixels, set_slider

CLIPBOARD = ["clipboard-read", "clipboard-write"]
CODE = r"[\w-]{100,172}"
PORTRAIT = 43, 64
"""Pixels of a photograph of 320 by 480, as the model sees it without its border."""
LIKE = 24.0
"""dB between a car and what its code says of it, at least; another car has less than 15."""


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service with codes."""
    with serving(None, tmp_path_factory.mktemp("coded") / "service.log") as client:
        yield str(client.base_url).rstrip("/")


def copied(visit: Visit, panel: str) -> str:
    """The link that a panel copies."""
    visit.panel(panel).get_by_role("button", name="Copy link").click()
    expect(visit.page.locator("#notice")).to_have_text("Link copied.")
    return str(visit.page.evaluate("() => navigator.clipboard.readText()"))


def likeness(one: str, other: str) -> float:
    """PSNR in dB of the pictures in two data URLs."""
    images = []
    for url in (one, other):
        with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
            images.append(np.asarray(image.convert("RGB").resize((96, 64)))[np.newaxis])
    return float(psnr(*images)[0])


def size_of(root: str, code: str) -> tuple[int, int]:
    """Width and height of the picture at the address of a code."""
    with Image.open(io.BytesIO(httpx.get(f"{root}/c/{code}.png").content)) as image:
        return image.size


def expect_drawn(canvas: Locator) -> str:
    """Wait until a canvas shows something: what."""
    colours = "canvas => new Set(canvas.getContext('2d').getImageData(0, 0, 99, 66).data).size > 10"
    canvas.page.wait_for_function(f"canvas => ({colours})(canvas)", arg=canvas.element_handle())
    return pixels(canvas)


def test_a_photograph_gets_into_the_address_by_sharing_it_alone(visiting: Open, coded: str) -> None:
    with visiting(coded, permissions=CLIPBOARD) as visit:
        visit.open("edit?car=3-0")
        visit.part("edit", "photo").set_input_files(car_file())
        visit.settle()
        visit.expect_address("edit")
        before = pixels(visit.part("edit", "picture"))
        assert re.fullmatch(f"{coded}/c/{CODE}", copied(visit, "edit"))
        visit.expect_address(f"edit.code={CODE}")
        address = visit.state()
    with visiting(coded) as elsewhere:
        elsewhere.open(address)
        assert likeness(expect_drawn(elsewhere.part("edit", "picture")), before) > LIKE


def test_an_edited_car_is_in_the_address_of_a_path(visiting: Open, coded: str) -> None:
    with visiting(coded, permissions=CLIPBOARD) as visit:
        visit.open("edit?car=43-0&by=2,1")
        visit.panel("edit").get_by_role("button", name="Interpolate from before to after").click()
        visit.expect_address(f"interpolate.cars=43-0,{CODE}")
        stop = visit.part("interpolate", "stops").locator("img").nth(1)
        expect(stop).to_have_attribute("src", re.compile("^data:image"))
        before = stop.get_attribute("src") or ""
        visit.page.go_back()
        visit.expect_address("edit.car=43-0&by=2,1(,0)*")
        visit.page.go_forward()
        visit.page.reload()
        visit.settle()
        expect(stop).to_have_attribute("src", re.compile("^data:image"))
        assert likeness(stop.get_attribute("src") or "", before) > LIKE
        visit.part("interpolate", "photos").set_input_files(car_file())
        visit.settle()
        visit.expect_address("interpolate")
        link = copied(visit, "interpolate")
        assert re.search(f"#interpolate.cars=43-0,{CODE},{CODE}&model=car-vae/3$", link)
        visit.expect_address(f"interpolate.cars=43-0,{CODE},{CODE}")
        expect(visit.part("interpolate", "private")).to_be_hidden()


def test_a_path_of_codes_alone_is_asked_for_by_its_address(visiting: Open, coded: str) -> None:
    with visiting(coded) as visit:
        visit.open("edit?car=43-0&by=2")
        code = visit.page.evaluate(
            """async () => {
                const { latents } = await (await fetch("sample.json?seed=43&count=2&images=none")).json();
                const headers = { "Content-Type": "application/json" };
                const sent = { method: "POST", body: JSON.stringify({ latents }), headers };
                const { items } = await (await fetch("compress.json", sent)).json();
                return items.map(({ codes }) => codes[0]).join(",");
            }"""
        )
        visit.open(f"interpolate?cars={code}")
        assert visit.asked("/interpolate.webp") == 1
        assert visit.asked("/interpolate.json") == 0
        expect_drawn(visit.part("interpolate", "picture"))


def test_cars_like_a_photograph_can_be_shared(visiting: Open, coded: str) -> None:
    with visiting(coded, permissions=CLIPBOARD) as visit:
        visit.open("sample?seed=7&temperature=0.5")
        visit.part("sample", "photo").set_input_files(car_file())
        tile = visit.part("sample", "wall").get_by_role("img").first
        expect(tile).to_have_attribute("alt", "Car 1 like yours")
        before = tile.get_attribute("src") or ""
        link = copied(visit, "sample")
        visit.expect_address(f"sample.seed=7&temperature=0.5&near={CODE}")
        visit.panel("sample").get_by_role("button", name="Draw freely").click()
        expect(tile).to_have_attribute("alt", "Car 1 of seed 7")
        visit.expect_address("sample.seed=7&temperature=0.5")
    with visiting(coded) as elsewhere:
        elsewhere.open(urlsplit(link).fragment)
        tile = elsewhere.part("sample", "wall").get_by_role("img").first
        expect(tile).to_have_attribute("alt", "Car 1 like yours")
        assert likeness(tile.get_attribute("src") or "", before) > LIKE


def test_a_reconstruction_can_be_shared(visiting: Open, coded: str) -> None:
    with visiting(coded, permissions=CLIPBOARD) as visit:
        visit.open("reconstruct")
        visit.part("reconstruct", "file").set_input_files(car_file())
        expect(visit.part("reconstruct", "sizes")).to_have_text(
            re.compile(r" as a file, 1\d\d bytes as a code\.$")
        )
        visit.expect_address("reconstruct")
        before = pixels(visit.part("reconstruct", "picture"))
        copied(visit, "reconstruct")
        visit.expect_address(f"reconstruct.code={CODE}")
        visit.page.reload()
        visit.settle()
        assert likeness(expect_drawn(visit.part("reconstruct", "picture")), before) > LIKE
        expect(visit.panel("reconstruct").get_by_role("heading", name="Original")).to_be_hidden()


def test_a_portrait_is_shared_as_a_portrait(visiting: Open, coded: str) -> None:
    size = re.compile(r"^43 . 64 pixels$")
    with visiting(coded, permissions=CLIPBOARD) as visit:
        visit.open("reconstruct")
        visit.part("reconstruct", "file").set_input_files(car_file(width=320, height=480))
        expect(visit.part("reconstruct", "copy-size")).to_have_text(size)
        link = copied(visit, "reconstruct")
        visit.expect_address(f"reconstruct.code={CODE}")
        visit.page.reload()
        visit.settle()
        expect(visit.part("reconstruct", "copy-size")).to_have_text(size)
    assert size_of(coded, link.rpartition("/")[2]) == PORTRAIT


@pytest.mark.parametrize(
    ("panel", "part", "pattern"),
    [
        ("edit?car=3-0", "photo", f"/c/({CODE})"),
        ("interpolate?cars=3-0,8-0", "photos", f"#interpolate.cars=3-0,8-0,({CODE})&"),
        ("sample?seed=7", "photo", f"#sample.seed=7&near=({CODE})&"),
    ],
    ids=["edit", "interpolate", "sample"],
)
def test_a_portrait_stays_one_when_the_page_is_reloaded(
    visiting: Open, coded: str, panel: str, part: str, pattern: str
) -> None:
    name = panel.partition("?")[0]
    with visiting(coded, permissions=CLIPBOARD) as visit:
        visit.open(panel)
        visit.part(name, part).set_input_files(car_file(width=320, height=480))
        visit.page.wait_for_function(
            "name => JSON.stringify(history.state?.[name])?.includes('data:image')", arg=name
        )
        visit.page.reload()
        visit.settle()
        assert visit.asked("/compress.json") == 0
        found = re.search(pattern, copied(visit, name))
        assert found is not None
        assert size_of(coded, found[1]) == PORTRAIT


def test_a_kept_portrait_is_shared_as_a_portrait(visiting: Open, coded: str) -> None:
    with visiting(coded, permissions=CLIPBOARD) as visit:
        visit.open("edit?car=3-0")
        visit.part("edit", "photo").set_input_files(car_file(width=320, height=480))
        kept = visit.page.locator("#garage").get_by_role("button", name="Your photograph")
        visit.settle()
        visit.panel("edit").get_by_role("button", name="Keep it").click()
        expect(kept).to_be_visible()
        visit.open("sample?seed=7")
        kept.click()
        visit.page.locator("dialog#car").get_by_role("button", name="Copy link").click()
        expect(visit.page.locator("#notice")).to_have_text("Link copied.")
        link = visit.page.evaluate("() => navigator.clipboard.readText()")
        assert size_of(coded, link.rpartition("/")[2]) == PORTRAIT


@pytest.mark.parametrize("fragment", ["edit?car=3-0", "interpolate?cars=3-0,8-0", "sample?seed=7"])
def test_a_link_of_another_model_shows_no_other_cars(visit: Visit, fragment: str) -> None:
    visit.page.goto(f"{visit.root}/#{fragment}&model=car-vae/2")
    panel = visit.panel("foreign")
    expect(panel.get_by_role("heading")).to_have_text("This link is of another model")
    expect(panel).to_contain_text("made with car-vae/2. This service runs car-vae/7")
    visit.settle()
    assert {urlsplit(request.url).path for request in visit.requests if "/static/" not in request.url} <= {
        "/",
        "/model",
    }
    panel.get_by_role("link", name="Show cars of this model").click()
    visit.panel(fragment.partition("?")[0])


@pytest.mark.parametrize("panel", ["edit?code={}", "interpolate?cars=3-0,{}", "reconstruct?code={}"])
def test_a_damaged_code_is_no_other_car(visiting: Open, coded: str, panel: str) -> None:
    with visiting(coded, forgiven="status of 400") as visit:
        visit.page.goto(f"{coded}/#{panel.format('I' * 128)}")
        alert = visit.panel(panel.partition("?")[0]).get_by_role("alert")
        expect(alert).to_contain_text("This code is damaged")


def test_pictures_are_saved_and_copied(visiting: Open, coded: str) -> None:
    with visiting(coded, permissions=CLIPBOARD) as visit:
        sizes = {
            "interpolate?cars=3-0,8-0": (1152, 768),
            "sample?seed=7": (5 * 288, 5 * 192),
            "edit?car=3-0": (1152, 768),
        }
        for fragment, size in sizes.items():
            panel = visit.open(fragment)
            for kind in ("PNG", "WebP"):
                with visit.page.expect_download() as download:
                    panel.get_by_role("button", name=f"Save as {kind}", exact=True).click()
                assert download.value.suggested_filename.endswith(f".{kind.lower()}")
                with Image.open(download.value.path()) as image:
                    assert (image.format, image.size) == (kind.upper(), size)
            panel.get_by_role("button", name="Copy picture").click()
            expect(visit.page.locator("#notice")).to_have_text("Picture copied.")
            types = visit.page.evaluate("async () => (await navigator.clipboard.read())[0].types")
            assert types == ["image/png"]


@pytest.mark.parametrize(("name", "kind"), [("moving WebP", "WEBP"), ("moving AVIF", "AVIF")])
def test_a_path_is_saved_as_it_moves(visit: Visit, name: str, kind: str) -> None:
    panel = visit.open("interpolate?cars=3-0,8-0")
    with visit.page.expect_download() as download:
        panel.get_by_role("button", name=f"Save as {name}").click()
    with Image.open(download.value.path()) as film:
        assert film.format == kind
        assert film.size == (480, 320)
        assert film.n_frames == 25  # type: ignore[attr-defined]


def test_sharing_tells_the_link_where_there_is_such_a_thing(visiting: Open, coded: str) -> None:
    with visiting(coded) as visit:
        visit.page.add_init_script("navigator.share = async (told) => { window.told = told; }")
        visit.open("sample?seed=7")
        visit.page.get_by_role("button", name="Car 2 of seed 7", exact=True).click()
        dialog = visit.page.locator("dialog#car")
        expect(dialog).to_contain_text("nothing is stored here")
        dialog.get_by_role("button", name="Share").click()
        visit.page.wait_for_function("() => window.told")
        assert re.fullmatch(f"{coded}/c/{CODE}", visit.page.evaluate("() => window.told.url"))
        visit.page.keyboard.press("Escape")
        visit.panel("sample").get_by_role("button", name="Share").click()
        visit.page.wait_for_function("() => window.told.url.includes('#sample')")


def test_without_codes_a_picture_is_shared_itself(visit: Visit) -> None:
    visit.page.add_init_script("navigator.share = async (told) => { window.told = told; }")
    visit.open("edit?car=3-0&by=1")
    visit.settle()
    set_slider(visit.panel("edit").get_by_role("slider").first, 2)
    visit.settle()
    visit.panel("edit").get_by_role("button", name="Share").click()
    visit.page.wait_for_function("() => window.told")
    assert visit.page.evaluate("() => window.told.files.map(({ name, type }) => [name, type])") == [
        ["car.png", "image/png"]
    ]
    visit.panel("edit").get_by_role("button", name="Copy link").click()
    expect(visit.page.locator("#notice")).to_contain_text("no link to this")
