"""Swagger UI's files, out of a package that carries them: what /docs shows the API with, also offline."""

from functools import cache
from importlib.resources import files

FOLDER = "swagger/"
NAMES = ("swagger-ui-bundle.js", "swagger-ui.css")


@cache
def swagger_files() -> dict[str, bytes]:
    """Script and style by their names among the page's files."""
    folder = files("fastapi_offline") / "static"
    return {FOLDER + name: (folder / name).read_bytes() for name in NAMES}
