"""The page of the API's description, under its own policy."""

import base64
import hashlib
import re

import httpx


async def test_only_its_own_script_runs(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert "openapi.json" in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    (script,) = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy
    for address in re.findall(r'(?:src|href)="(https:[^"]+)"', page.text):
        assert address.startswith(re.findall(r"script-src (\S+)", policy)[0])
