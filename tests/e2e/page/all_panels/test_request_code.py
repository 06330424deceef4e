"""The request behind a panel, as code that makes it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, expect

from tests.e2e.page.visits import Visit, car_file


def copied(visit: Visit, panel: str, language: str) -> str:
    """The code that Copy puts on the clipboard."""
    details = visit.page.locator(f"#panel-{panel} details")
    if details.get_attribute("open") is None:
        details.locator("summary").click()
    details.get_by_label(language, exact=True).check()
    details.get_by_role("button", name="Copy").click()
    expect(visit.page.locator("#notice")).to_have_text(f"Copied for {language}.")
    return str(visit.page.evaluate("() => navigator.clipboard.readText()"))


def run(language: str, code: str, folder: Path, page: Page) -> Any:
    """What the code gets: the content of JSON, the size of a picture."""
    picture = folder / "cars.webp"
    is_picture = picture.name in code or ".blob()" in code
    if language == "JavaScript":
        content = "[(await createImageBitmap(content)).width, (await createImageBitmap(content)).height]"
        expression = f"(async () => {{ {code}\nreturn {content if is_picture else 'content'}; }})()"
        session = page.context.new_cdp_session(page)
        options = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        found = session.send("Runtime.evaluate", options)["result"]["value"]
        return tuple(found) if is_picture else found
    if language == "Python":
        shown = "" if is_picture else "\nimport json\nprint(json.dumps(content))"
        command = [sys.executable, "-c", code + shown]
    else:
        command = ["bash", "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    if not is_picture:
        return json.loads(done.stdout)
    with Image.open(picture) as image:
        size = image.size
    picture.unlink()
    return size


def test_copied_code_makes_the_request(visit: Visit, tmp_path: Path) -> None:
    languages = ["Python", "JavaScript"] + (["curl"] if shutil.which("curl") else [])
    visit.open("edit?car=3-0&by=1")
    for language in languages:
        code = copied(visit, "edit", language)
        shown = visit.page.locator("#panel-edit pre").text_content() or ""
        assert "… 29 more" in shown
        assert "more" not in code
        assert run(language, code, tmp_path, visit.page) == (48, 32)
    visit.open("interpolate?cars=3-0,8-0&method=spherical")
    for language in languages:
        code = copied(visit, "interpolate", language)
        assert run(language, code, tmp_path, visit.page) == (33 * 48, 32)
    visit.open("sample?seed=7")
    for language in languages:
        code = copied(visit, "sample", language)
        assert run(language, code, tmp_path, visit.page) == (5 * 48, 5 * 32)
    (tmp_path / "car.jpg").write_bytes(car_file()["buffer"])
    visit.open("reconstruct")
    visit.part("reconstruct", "file").set_input_files(car_file())
    expect(visit.part("reconstruct", "psnr")).to_contain_text("dB")
    for language in set(languages) - {"JavaScript"}:
        code = copied(visit, "reconstruct", language)
        assert run(language, code, tmp_path, visit.page)["psnr"][0] > 10
