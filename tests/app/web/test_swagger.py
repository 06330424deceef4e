"""Swagger UI at /docs: all of it from this service, under the page's policy."""

import re

import httpx

from app.web.swagger import swagger_files
from tests.app.web.test_page import FOR_GOOD, names_in


async def test_nothing_comes_from_elsewhere(client: httpx.AsyncClient) -> None:
    docs = await client.get("/docs")
    assert docs.headers["content-type"] == "text/html; charset=utf-8"
    assert not re.search(r"https?://|<script>|<style|style=", docs.text)
    named = {name.split("/", 2)[2]: name for name in names_in(docs.text)}
    assert set(named) == {"icon.svg", "docs.js", *swagger_files()}
    for name, content in swagger_files().items():
        answer = await client.get(f"/{named[name]}")
        assert answer.content == content
        assert answer.headers["cache-control"] == FOR_GOOD


async def test_it_runs_its_own_scripts_only(client: httpx.AsyncClient) -> None:
    headers = (await client.get("/docs")).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in str(policy)


async def test_it_shows_the_description_of_this_service(client: httpx.AsyncClient) -> None:
    docs = await client.get("/docs")
    (script,) = [name for name in names_in(docs.text) if name.endswith("docs.js")]
    (address,) = re.findall(r'url: "([^"]+)"', (await client.get(f"/{script}")).text)
    assert (await client.get(f"/{address}")).json()["info"]["title"] == "car-vae"
