"""The web page, /docs and their files: kept in memory, named by their content, under a strict policy."""

import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.server.asgi import route_path
from app.server.compression import takes_gzip
from app.server.entity_tags import is_known
from app.web.swagger import swagger_files

FOLDER = Path(__file__).parent / "static"
PAGE = "/"
DOCS = "/docs"
END_OF_TITLE = b"</title>\n"
HTML = MappingProxyType({PAGE: "index.html", DOCS: "docs.html"})
ASSETS = "/static/"
"""Below which all is that the pages need."""

MEDIA_TYPES = MappingProxyType(
    {
        ".html": "text/html",
        ".css": "text/css",
        ".js": "text/javascript",
        ".png": "image/png",
        ".svg": "image/svg+xml",
        ".webmanifest": "application/manifest+json",
    }
)
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
TRUSTED_TYPES = "; require-trusted-types-for 'script'; trusted-types 'none'"
"""For all but /docs: Swagger UI writes HTML into itself, and shows nothing under this."""

GUARDS = MappingProxyType(
    {
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
)
ASKED_EACH_TIME = "no-cache"
NEVER_KEPT = "no-store"
KEPT_FOR_GOOD = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class File:
    """One file as it is sent."""

    content: bytes
    compressed: bytes
    media_type: str
    etag: str

    @staticmethod
    def packed(content: bytes, media_type: str, level: int = 1) -> "File":
        """A file of such content, packed at a level of gzip."""
        tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        return File(content, gzip.compress(content, level, mtime=0), media_type, tag)


class Page:
    """The files of a folder, and those it gets besides.

    In the pages `static/` becomes `static/<digest of all files>/`, under which browsers may keep files for
    good. Modules import one another by relative addresses, so one digest covers all of them.
    """

    def __init__(self, folder: Path = FOLDER, besides: Mapping[str, bytes] | None = None) -> None:
        contents = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.suffix in MEDIA_TYPES
        } | dict(swagger_files() if besides is None else besides)
        whole = hashlib.sha256()
        for name, content in contents.items():
            whole.update(b"%s %d " % (name.encode(), len(content)) + content)
        self.digest = whole.hexdigest()[:16]
        for name in HTML.values():
            if name in contents:
                contents[name] = contents[name].replace(b'"static/', f'"static/{self.digest}/'.encode())
        above = re.sub(rb'(src|href)="(?!#)', rb'\1="../', contents[HTML[PAGE]])
        self._head, _, self._rest = above.partition(END_OF_TITLE)
        self._files = {name: _file(name, content) for name, content in contents.items()}
        self.routes = (
            *(Route(path, self.page) for path in HTML),
            Route(ASSETS + "{digest}/{name:path}", self.asset),
        )

    async def page(self, request: Request) -> Response:
        """GET / and /docs: a page itself, asked for each time, as it names the files of this version."""
        path = route_path(request.scope)
        policy = POLICY if path == DOCS else POLICY + TRUSTED_TYPES
        return _answer(request, self._files[HTML[path]], ASKED_EACH_TIME, policy)

    def below(self, request: Request, head: str, status: int = 200) -> Response:
        """The page at an address one folder below its own, with more in its head."""
        content = b"".join((self._head, END_OF_TITLE, head.encode(), self._rest))
        file = File.packed(content, "text/html")
        caching = ASKED_EACH_TIME if status == 200 else NEVER_KEPT
        return _answer(request, file, caching, POLICY + TRUSTED_TYPES, status)

    async def asset(self, request: Request) -> Response:
        """GET /static/<digest>/<name>: what the page needs.

        While one version replaces another, a page of one may ask a replica of the other: it gets the file
        there is, and does not keep it under the wrong name.
        """
        file = self._files.get(request.path_params["name"])
        if file is None:
            raise HTTPException(404)
        same = request.path_params["digest"] == self.digest
        caching = KEPT_FOR_GOOD if same else ASKED_EACH_TIME
        return _answer(request, file, caching, POLICY + TRUSTED_TYPES)


@lru_cache(maxsize=64)
def _file(name: str, content: bytes) -> File:
    return File.packed(content, MEDIA_TYPES[Path(name).suffix], level=9)


def _answer(request: Request, file: File, caching: str, policy: str, status: int = 200) -> Response:
    headers = {
        **GUARDS,
        "Content-Security-Policy": policy,
        "Cache-Control": caching,
        "ETag": file.etag,
        "Vary": "Accept-Encoding",
    }
    if status == 200 and is_known(request.headers, file.etag):
        return Response(status_code=304, headers=headers)
    if takes_gzip(request.headers):
        compressed = headers | {"Content-Encoding": "gzip", "ETag": "W/" + file.etag}
        return Response(file.compressed, status, compressed, file.media_type)
    return Response(file.content, status, headers, file.media_type)
