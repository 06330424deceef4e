"""The one way in for photographs: the same in every panel, whatever they come as."""

import io
import re

import pytest
from PIL import Image
from playwright.sync_api import FilePayload, expect

from tests.e2e.page.visits import REFUSED, Open, Visit, car_file, expect_pixels, pixels, tiff_file
from tests.heic import SIDE, heic

TIMES = "\N{MULTIPLICATION SIGN}"
ORIENTATION = 274
BROKEN: FilePayload = {"name": "half.jpg", "mimeType": "image/jpeg", "buffer": car_file()["buffer"][:400]}
WORDS: FilePayload = {"name": "words.txt", "mimeType": "text/plain", "buffer": b"no picture at all"}


def give(visit: Visit, event: str, *files: FilePayload) -> None:
    """Drop or paste files, as the browser tells the page of it."""
    visit.page.evaluate(
        """([kind, files]) => {
            const data = new DataTransfer();
            for (const [name, type, bytes] of files) {
                data.items.add(new File([new Uint8Array(bytes)], name, { type }));
            }
            const event = kind === "drop"
                ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
                : new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true });
            document.body.dispatchEvent(event);
        }""",
        [event, [[file["name"], file["mimeType"], list(file["buffer"])] for file in files]],
    )


def expect_car(visit: Visit, panel: str) -> None:
    """Wait until a photograph has arrived in a panel."""
    if panel == "interpolate":
        stops = visit.part(panel, "stops").get_by_role("button")
        expect(stops).to_have_count(3)
        expect(stops.nth(2)).to_have_accessible_name("Car 3: Your photograph")
    elif panel == "sample":
        expect(visit.part(panel, "wall").get_by_role("img").first).to_have_attribute(
            "alt", "Car 1 like yours"
        )
        expect(visit.part(panel, "near-picture")).to_have_attribute("src", re.compile("^data:image"))
    elif panel == "edit":
        visit.panel(panel).get_by_role("button", name="Keep it").click()
        expect(visit.page.locator("#garage img")).to_have_attribute("alt", "Your photograph")
    else:
        expect(visit.part(panel, "psnr")).to_contain_text("dB")


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_a_photograph_stays_where_it_is_given(visit: Visit, event: str) -> None:
    for panel in ("interpolate?cars=3-0,8-0", "sample?seed=7", "edit?car=3-0", "reconstruct"):
        name = panel.partition("?")[0]
        visit.open(panel)
        give(visit, event, car_file())
        visit.settle()
        visit.panel(name)
        expect_car(visit, name)


@pytest.mark.parametrize("part", ["photo", "camera"])
def test_a_photograph_is_chosen_or_taken_everywhere(visit: Visit, part: str) -> None:
    for panel in ("sample?seed=7", "edit?car=3-0"):
        name = panel.partition("?")[0]
        visit.open(panel)
        visit.part(name, part).set_input_files(car_file())
        visit.settle()
        expect_car(visit, name)


def test_a_bad_file_is_named_and_the_good_ones_are_kept(visiting: Open) -> None:
    with visiting(forgiven=f"{REFUSED}400") as visit:
        panel = visit.open("interpolate?cars=3-0,8-0")
        give(visit, "drop", car_file(1), BROKEN, WORDS, car_file(2))
        stops = visit.part("interpolate", "stops").get_by_role("button")
        expect(stops).to_have_count(4)
        alert = panel.get_by_role("alert")
        expect(alert).to_contain_text("half.jpg: This picture cannot be read")
        expect(alert).to_contain_text("words.txt: This is not a kind of picture")
        asked = visit.asked("/reconstruct.json"), visit.asked("/preview.webp")
        panel.get_by_role("button", name="Retry").click()
        visit.settle()
        expect(stops).to_have_count(4)
        expect(alert).to_contain_text("half.jpg")
        assert (visit.asked("/reconstruct.json"), visit.asked("/preview.webp")) == (asked[0], asked[1] + 1)


def test_of_several_one_is_taken_where_one_has_room(visiting: Open) -> None:
    with visiting(forgiven=f"{REFUSED}400") as visit:
        visit.open("edit?car=3-0")
        give(visit, "drop", BROKEN, car_file(1), car_file(2))
        expect(visit.page.locator("#notice")).to_contain_text("One photograph is taken here")
        expect(visit.panel("edit").get_by_role("alert")).to_contain_text("half.jpg")
        expect_car(visit, "edit")


@pytest.mark.parametrize(
    ("file", "size"),
    [
        (tiff_file(), (96, 64)),
        ({"name": "car.heic", "mimeType": "image/heic", "buffer": heic()}, (SIDE, SIDE)),
    ],
    ids=["TIFF", "HEIC"],
)
def test_what_the_browser_cannot_show_is_shown_and_cropped(
    visit: Visit, file: FilePayload, size: tuple[int, int]
) -> None:
    panel = visit.open("reconstruct")
    visit.part("reconstruct", "file").set_input_files(file)
    words = visit.part("reconstruct", "original-size")
    expect(words).to_contain_text(f"{size[0]} {TIMES} {size[1]} pixels of {file['name']}")
    colours = "canvas => new Set(canvas.getContext('2d').getImageData(0, 0, 60, 60).data).size"
    assert panel.locator(".crop canvas").evaluate(colours) > 10
    visit.page.locator(".box").focus()
    visit.page.keyboard.press("Shift+ArrowLeft")
    expect(words).to_contain_text(f"{round(0.98 * size[0])} {TIMES} {size[1]} pixels")
    assert visit.asked("/preview.webp") == 1


def test_a_turned_photograph_stands_upright_in_its_own_shape(visit: Visit) -> None:
    with Image.open(io.BytesIO(car_file()["buffer"])) as image:
        exif = image.getexif()
        exif[ORIENTATION] = 6
        turned = io.BytesIO()
        image.save(turned, "JPEG", exif=exif)
    visit.open("reconstruct")
    file: FilePayload = {"name": "car.jpg", "mimeType": "image/jpeg", "buffer": turned.getvalue()}
    visit.part("reconstruct", "file").set_input_files(file)
    expect(visit.part("reconstruct", "original-size")).to_contain_text(f"320 {TIMES} 480 pixels")
    expect(visit.part("reconstruct", "copy-size")).to_have_text(f"21 {TIMES} 32 pixels")
    boxes = [
        visit.panel("reconstruct").locator(canvas).bounding_box()
        for canvas in (".sheet-of-crop canvas", ".frame canvas")
    ]
    (original, copy) = (box for box in boxes if box is not None)
    assert original["width"] / original["height"] == pytest.approx(2 / 3, rel=0.02)
    assert copy["width"] / copy["height"] == pytest.approx(2 / 3, rel=0.05)
    assert copy["height"] == pytest.approx(original["height"], rel=0.02)


def test_the_file_is_compared_and_not_what_was_sent_of_it(visit: Visit) -> None:
    visit.open("reconstruct")
    large = car_file(1, 1800, 1200)
    visit.part("reconstruct", "file").set_input_files(large)
    times = round(len(large["buffer"]) / 128)
    expect(visit.part("reconstruct", "ratio")).to_have_text(f"{times:,}{TIMES}")
    expect(visit.part("reconstruct", "sizes")).to_contain_text("as a file, 128 bytes as numbers")


def test_a_crop_is_sent_when_it_rests(visit: Visit) -> None:
    visit.open("reconstruct")
    visit.part("reconstruct", "file").set_input_files(car_file(1, 3000, 2000))
    words = visit.part("reconstruct", "original-size")
    expect(words).to_contain_text(f"3000 {TIMES} 2000 pixels")
    asked = visit.asked("/reconstruct.json")
    box = visit.page.locator(".box").bounding_box()
    assert box is not None
    visit.page.evaluate(
        """([x, y, steps]) => {
            const box = document.querySelector(".box");
            const told = (type, at) => box.dispatchEvent(new PointerEvent(type, {
                clientX: x + at, clientY: y, button: 0, pointerId: 1, bubbles: true,
            }));
            box.setPointerCapture = () => {};
            box.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft", shiftKey: true }));
            told("pointerdown", 0);
            for (let at = 1; at <= steps; at += 1) told("pointermove", at % 40);
            told("pointerup", 0);
        }""",
        [box["x"] + 50, box["y"] + 50, 120],
    )
    expect(words).to_contain_text(f"2940 {TIMES} 2000 pixels")
    assert visit.asked("/reconstruct.json") == asked + 1


def test_a_large_file_shows_how_far_it_has_come_and_can_be_stopped(visiting: Open) -> None:
    with visiting(forgiven="ERR_") as visit:
        panel = visit.open("reconstruct")
        visit.page.route("**/preview.webp", lambda _: None)
        visit.part("reconstruct", "file").set_input_files(tiff_file(480, 320))
        sending = visit.page.get_by_role("progressbar", name="Sending")
        expect(sending).to_be_visible()
        stop = visit.page.get_by_role("button", name="Stop")
        stop.focus()
        visit.page.keyboard.press("Enter")
        alert = panel.get_by_role("alert")
        expect(alert).to_contain_text("car.tiff: Sending was stopped")
        expect(sending).to_be_hidden()
        expect(panel.get_by_role("heading", level=1)).to_be_focused()
        visit.page.unroute("**/preview.webp")
        panel.get_by_role("button", name="Retry").click()
        expect(visit.part("reconstruct", "psnr")).to_contain_text("dB")
        expect(alert).to_have_count(0)


def test_a_reload_finds_a_photograph_that_no_address_holds(visit: Visit) -> None:
    for panel in ("interpolate?cars=3-0,8-0", "sample?seed=7", "edit?car=3-0", "reconstruct"):
        name = panel.partition("?")[0]
        visit.open(panel)
        give(visit, "drop", car_file())
        visit.settle()
        visit.page.wait_for_function("name => Object.keys(history.state?.[name] ?? {}).length > 0", arg=name)
        visit.expect_address(f"{name}(.seed=7)?")
        before = None if name in ("sample", "reconstruct") else pixels(visit.part(name, "picture"))
        visit.page.reload()
        visit.settle()
        visit.expect_address(f"{name}(.seed=7)?")
        if before is None:
            expect_car(visit, name)
        else:
            expect_pixels(visit.part(name, "picture"), before)
