"""The page at the address of one car, /c/<code>, with what chats and search engines show of it."""

import asyncio
import re
from html import escape

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.codes import wire
from app.errors import ServiceError
from app.images.encode import scaled_size
from app.model.manifest import Manifest
from app.server.problem_details import STATUS
from app.state import state_of
from app.web.page import Page

CAR = "/c/{code}"
PREVIEW_EDGE = 1200
"""Pixels of a preview's longer edge: most chats show what is smaller than half of it beside the text."""

IS_CAR = re.compile(r"/c/(?P<code>[^/.]+)\Z")
"""Paths of the page: those of a car's pictures have a dot."""
HOST = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?")
PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*")


def is_car_page(path: str) -> bool:
    """Whether a path is that of the page on a car, which needs no key."""
    return IS_CAR.match(path) is not None


class CarRoute(Route):
    """The route of the page on a car, under whose path its requests are counted."""

    def __init__(self, page: Page) -> None:
        """Make the route; `page` is what is shown on every car."""
        super().__init__(CAR, self._show)
        self.path_regex = IS_CAR
        self._page = page

    async def _show(self, request: Request) -> Response:
        """GET /c/<code>: the page, which reads its car from the address. It says itself what is wrong with a
        code, so that it comes with an error's status too."""
        request.scope["route"] = self
        state = state_of(request)
        text = request.path_params["code"]
        try:
            code = wire.from_text(text)
            model = await asyncio.to_thread(state.read_code, code)
        except ServiceError as error:
            return self._page.below(request, "", status=STATUS[type(error)][0])
        # Who makes a preview has no key.
        return self._page.below(
            request, _preview(request, text, len(code), model, has_picture=not state.settings.needs_key)
        )


def _preview(request: Request, text: str, length: int, model: Manifest, *, has_picture: bool) -> str:
    """What the head of the page tells of a car, by the Open Graph protocol (ogp.me)."""
    told = {
        "og:type": "website",
        "og:site_name": "car-vae",
        "og:title": f"A car in {length} bytes",
        "og:description": f"This link is the car itself: {length} bytes, from which {model.id} draws it.",
    }
    root = _root(request)
    if root is not None:
        told["og:url"] = f"{root}/c/{text}"
    if root is not None and has_picture:
        width, height = scaled_size(model.image_size.width, model.image_size.height, PREVIEW_EDGE)
        told |= {
            "og:image": f"{root}/c/{text}.jpg?size={PREVIEW_EDGE}&letterbox=true",
            "og:image:type": "image/jpeg",
            "og:image:width": str(width),
            "og:image:height": str(height),
            "og:image:alt": "A car, drawn from its code.",
        }
    lines = [f'<meta property="{name}" content="{escape(value)}">' for name, value in told.items()]
    lines.append('<meta name="twitter:card" content="summary_large_image">')
    return "".join(f"  {line}\n" for line in lines)


def _root(request: Request) -> str | None:
    """The address of the service as its visitors know it, without a slash at its end; None where its name
    makes no sense. What a proxy says of itself is believed from anyone, as it changes nobody else's page."""
    scheme = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    host = request.headers.get("host", "")
    prefix = request.headers.get("x-forwarded-prefix", "").rstrip("/")
    if not HOST.fullmatch(host) or not PREFIX.fullmatch(prefix):
        return None
    if scheme not in ("http", "https"):
        scheme = request.scope["scheme"]
    return f"{scheme}://{host}{prefix}{request.scope.get('root_path', '')}"
