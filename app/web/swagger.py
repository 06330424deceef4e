"""Swagger UI at GET /docs, its script from a CDN: /openapi.json for people, under a policy of its own.

Its script and style come from the network, as they would weigh more than the service itself. They may talk
to this service only, and of the page nothing is run but the inline script whose digest is in the policy.
"""

import base64
import hashlib
import re

from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

SOURCE = "https://cdn.jsdelivr.net/npm/swagger-ui-dist@5/"
HTML = bytes(
    get_swagger_ui_html(
        openapi_url="openapi.json",
        title="car-vae",
        swagger_js_url=SOURCE + "swagger-ui-bundle.js",
        swagger_css_url=SOURCE + "swagger-ui.css",
        swagger_favicon_url="data:,",
    ).body
)
DIGESTS = [
    base64.b64encode(hashlib.sha256(script).digest()).decode()
    for script in re.findall(rb"<script>(.*?)</script>", HTML, re.DOTALL)
]
POLICY = "; ".join(
    (
        "default-src 'none'",
        f"script-src {SOURCE} " + " ".join(f"'sha256-{digest}'" for digest in DIGESTS),
        f"style-src {SOURCE}",
        "img-src data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


async def docs(_: Request) -> Response:
    """The page."""
    return HTMLResponse(HTML, headers={"Content-Security-Policy": POLICY})


PATH = "/docs"
ROUTE = Route(PATH, docs)
