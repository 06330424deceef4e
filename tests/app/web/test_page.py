"""How the page and its files are sent: caching, compression, policy."""

import io
import re
from pathlib import Path

import httpx
import pytest
from PIL import Image

from app.web.page import FOLDER, Page
from tests.app.api.requests import check_problem
from tests.app.conftest import Serve

FOR_GOOD = "public, max-age=31536000, immutable"
PLAIN = {"Accept-Encoding": "identity"}


def names_in(page: str) -> list[str]:
    """Addresses of the files that the page names."""
    return re.findall(r'(?:src|href)="(static/[^"]+)"', page)


async def test_page_and_what_it_names(client: httpx.AsyncClient) -> None:
    page = await client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-cache"
    names = names_in(page.text)
    assert len(names) > 10
    kinds = {
        ".js": "text/javascript; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".png": "image/png",
        ".svg": "image/svg+xml",
        ".webmanifest": "application/manifest+json",
    }
    for name in names:
        answer = await client.get(f"/{name}")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == kinds[Path(name).suffix]
        assert answer.headers["cache-control"] == FOR_GOOD


async def test_the_manifest_leads_back_to_the_page(client: httpx.AsyncClient) -> None:
    (name,) = [name for name in names_in((await client.get("/")).text) if name.endswith(".webmanifest")]
    address = client.base_url.join(f"/{name}")
    manifest = (await client.get(address)).json()
    assert address.join(manifest["start_url"]) == address.join(manifest["scope"]) == client.base_url.join("/")
    for icon in manifest["icons"]:
        answer = await client.get(address.join(icon["src"]))
        assert answer.headers["content-type"] == icon["type"]
    with Image.open(io.BytesIO(answer.content)) as image:
        assert manifest["icons"][-1]["sizes"] == f"{image.width}x{image.height}"


async def test_every_module_is_loaded_ahead(client: httpx.AsyncClient) -> None:
    """A module that the page does not name is found late, after the one that imports it has come. QR codes
    are not needed before they are asked for."""
    named = {name.split("/", 2)[2] for name in names_in((await client.get("/")).text)}
    there = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()}
    assert named == there - {"index.html", "docs.html", "docs.js", "compress/qr.js"}


async def test_the_page_runs_its_own_scripts_only(client: httpx.AsyncClient) -> None:
    page = await client.get("/")
    for answer in (page, await client.get(f"/{names_in(page.text)[0]}")):
        policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert "unsafe" not in str(policy)
        assert "*" not in str(policy)
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<script>|<style|style=|\son[a-z]+=|https?://", page.text)


async def test_unchanged_is_not_sent_again(client: httpx.AsyncClient) -> None:
    for accepted in (PLAIN, {"Accept-Encoding": "gzip, br"}):
        page = await client.get("/", headers=accepted)
        for known in (page.headers["etag"], f'"other", {page.headers["etag"]}'):
            again = await client.get("/", headers=accepted | {"If-None-Match": known})
            assert again.status_code == 304
            assert again.content == b""
            assert "content-security-policy" in again.headers
    assert (await client.get("/", headers={"If-None-Match": '"other"'})).status_code == 200


async def test_compressed_for_those_who_can(client: httpx.AsyncClient) -> None:
    plain = await client.get("/", headers=PLAIN)
    small = await client.get("/", headers={"Accept-Encoding": "br, gzip"})
    assert "content-encoding" not in plain.headers
    assert small.headers["content-encoding"] == "gzip"
    assert small.content == plain.content, "httpx has unpacked it"
    assert int(small.headers["content-length"]) < int(plain.headers["content-length"]) / 2
    assert {plain.headers["vary"], small.headers["vary"]} == {"Accept-Encoding"}


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("*", True),
        ("gzip;q=0.5", True),
        ("gzip;q=1.0, identity; q=0.5, *;q=0", True),
        ("identity;q=0, gzip;q=0.1", True),
        ("br, *;q=0.1", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000, br", False),
        ("gzip;q=0, *", False),
        ("*;q=0", False),
        ("identity, gzip;q=0.5", False),
        ("br", False),
        ("not-gzip", False),
        ("gzip;q=high", False),
        ("", False),
    ],
)
async def test_gzip_is_sent_to_those_who_take_it(
    client: httpx.AsyncClient, accepted: str, packed: bool
) -> None:
    page = await client.get("/", headers={"Accept-Encoding": accepted})
    assert page.status_code == 200
    assert (page.headers.get("content-encoding") == "gzip") == packed
    assert "<html" in page.text


async def test_a_file_of_another_version_is_not_kept(client: httpx.AsyncClient) -> None:
    answer = await client.get("/static/0123456789abcdef/page.js")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("name", ["nothing.js", "../main.py", "%2e%2e/main.py", "panels", "", "..%2Fmain.py"])
async def test_nothing_else_is_there(client: httpx.AsyncClient, name: str) -> None:
    digest = names_in((await client.get("/")).text)[0].split("/")[1]
    check_problem(await client.get(f"/static/{digest}/{name}"), 404)


async def test_the_page_needs_no_key(serve: Serve) -> None:
    async with serve(api_keys="key") as client:
        page = await client.get("/")
        assert page.status_code == 200
        assert (await client.get(f"/{names_in(page.text)[0]}")).status_code == 200


def test_any_change_changes_every_address(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text('<script src="static/a.js"></script>')
    (tmp_path / "a.js").write_text("1")
    before = Page(tmp_path, {}).digest
    assert Page(tmp_path, {}).digest == before
    (tmp_path / "a.js").write_text("2")
    after = Page(tmp_path, {}).digest
    assert after != before
    (tmp_path / "a.js").rename(tmp_path / "b.js")
    assert Page(tmp_path, {}).digest not in (before, after)
