"""The web page and its files: kept in memory, named by their content, under a strict security policy."""

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.server.compression import takes_gzip
from app.server.entity_tags import is_known

FOLDER = Path(__file__).parent / "static"
INDEX = "index.html"
PAGE = "/"
ASSETS = "/static/"
"""Where the page is, and below which all that it needs."""

MEDIA_TYPES = MappingProxyType(
    {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
)
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
GUARDS = MappingProxyType(
    {
        "Content-Security-Policy": POLICY,
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
)
ASKED_EACH_TIME = "no-cache"
KEPT_FOR_GOOD = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class File:
    """One file as it is sent."""

    content: bytes
    compressed: bytes
    media_type: str
    etag: str


class Page:
    """The files of a folder.

    In the page `static/` becomes `static/<digest of all files>/`, under which browsers may keep files for
    good. Modules import one another by relative addresses, so one digest covers all of them.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        contents = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.suffix in MEDIA_TYPES
        }
        whole = hashlib.sha256()
        for name, content in contents.items():
            whole.update(b"%s %d " % (name.encode(), len(content)) + content)
        self.digest = whole.hexdigest()[:16]
        contents[INDEX] = contents[INDEX].replace(b'"static/', f'"static/{self.digest}/'.encode())
        self._files = {name: _file(name, content) for name, content in contents.items()}
        self.routes = (Route(PAGE, self.page), Route(ASSETS + "{digest}/{name:path}", self.asset))

    async def page(self, request: Request) -> Response:
        """GET /: the page itself, asked for each time, as it names the files of this version."""
        return _answer(request, self._files[INDEX], ASKED_EACH_TIME)

    async def asset(self, request: Request) -> Response:
        """GET /static/<digest>/<name>: what the page needs.

        While one version replaces another, a page of one may ask a replica of the other: it gets the file
        there is, and does not keep it under the wrong name.
        """
        file = self._files.get(request.path_params["name"])
        if file is None:
            raise HTTPException(404)
        same = request.path_params["digest"] == self.digest
        return _answer(request, file, KEPT_FOR_GOOD if same else ASKED_EACH_TIME)


def _file(name: str, content: bytes) -> File:
    return File(
        content,
        gzip.compress(content, mtime=0),
        MEDIA_TYPES[Path(name).suffix],
        f'"{hashlib.sha256(content).hexdigest()[:16]}"',
    )


def _answer(request: Request, file: File, caching: str) -> Response:
    headers = {**GUARDS, "Cache-Control": caching, "ETag": file.etag, "Vary": "Accept-Encoding"}
    if is_known(request.headers, file.etag):
        return Response(status_code=304, headers=headers)
    if takes_gzip(request.headers):
        compressed = headers | {"Content-Encoding": "gzip", "ETag": "W/" + file.etag}
        return Response(file.compressed, headers=compressed, media_type=file.media_type)
    return Response(file.content, headers=headers, media_type=file.media_type)
