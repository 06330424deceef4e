"""Responses: images in the format that was chosen, one file of them all or data URLs in JSON; latents as npy;
and what lets answers to GET be kept."""

import base64
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import orjson
import PIL
from starlette.responses import Response

from app import version
from app.api.content_negotiation import REPRESENTATIONS, Format
from app.api.inference_request import InferenceRequest
from app.api.schemas import Options, SizeQuery
from app.images.arrays import ImageArray
from app.images.encode import (
    encode_avif,
    encode_gif,
    encode_jpeg,
    encode_moving_avif,
    encode_moving_webp,
    encode_webp,
    enlarge,
    grid,
)
from app.images.png import encode_png
from app.model.latents import Latents
from app.model.npy import write_npy
from app.server.asgi import route_path
from app.server.entity_tags import digest, is_known

Fields = dict[str, Any]

QUICK_BYTES = 40_000
"""Bytes of images that are encoded as PNG on the event loop, at 3 to 4 ns each."""

SEEDED_CACHE_SECONDS = 3600
"""How long an answer to GET with a seed may be kept: it changes only when another model is served."""

YEAR_SECONDS = 31_536_000
"""The longest that anything needs to be kept (RFC 9111 has no bound, and caches do not keep it longer)."""

VERSIONS = (version(), PIL.__version__)
"""Of what writes the files: another may write them otherwise."""

ENCODERS: dict[Format, Callable[[ImageArray], bytes]] = {
    "png": encode_png,
    "jpeg": encode_jpeg,
    "webp": encode_webp,
    "avif": encode_avif,
}
ANIMATIONS: dict[Format, Callable[..., bytes]] = {
    "webp": encode_moving_webp,
    "avif": encode_moving_avif,
    "gif": encode_gif,
}
"""The formats of animations, the first where the client has no preference."""


async def latents_response(
    request: InferenceRequest,
    latents: Latents,
    fields: Fields,
    query: SizeQuery,
    decode: Callable[[], Awaitable[ImageArray]],
    *,
    columns: int | None = None,
    animated: bool = False,
) -> Response:
    """Latents (N, L) float32 themselves, their images, or both, as `image_response` has it; `decode` is
    called where images are wanted."""
    if request.format == "npy":
        return npy_response(request, latents)
    fields = {**fields, "latents": latents}
    if request.format == "json" and query.images == "none":
        return json_response(request, fields)
    return await image_response(request, await decode(), fields, query, columns=columns, animated=animated)


async def image_response(
    request: InferenceRequest,
    images: ImageArray,
    fields: Fields,
    query: SizeQuery,
    *,
    columns: int | None = None,
    animated: bool = False,
) -> Response:
    """Images in the format that the request wants.

    Args:
        images: (N, height, width, 3) uint8.
        fields: what stands beside them in JSON.
        query: says how large they are to be, and what they are in JSON.
        columns: of the grid that several make; by default it is as square as can be.
        animated: they are the frames of an animation, which they are in a GIF in any case.
    """
    size = query.size
    kind: Format = request.format
    if kind == "json":
        if query.images == "none":
            return json_response(request, fields)
        kind = query.images
    # Small ones take less time than it takes to hand them to another thread.
    here = size is None and kind == "png" and images.nbytes <= QUICK_BYTES
    if request.format == "json":
        url = partial(data_url, kind=kind, size=size)
        urls = await request.in_pool("encode", url, list(images), here=here)
        return json_response(request, {**fields, "images": urls})
    if animated or kind == "gif":
        encode: Callable[[ImageArray], bytes] = partial(ANIMATIONS[kind], longer_edge=size)
    else:
        encode = partial(_grid, columns=columns, size=size, encode=ENCODERS[kind])
    (content,) = await request.in_pool("encode", encode, [images], here=here)
    return file_response(request, content)


def _grid(
    images: ImageArray, columns: int | None, size: int | None, encode: Callable[[ImageArray], bytes]
) -> bytes:
    """One file of all images: as they are, or laid out in rows of `columns`."""
    return encode(grid([enlarge(image, size) for image in images], columns))


def data_url(image: ImageArray, kind: Format, size: int | None = None) -> str:
    """An image (height, width, 3) uint8 as a data URL; `size` are the pixels of its longer edge."""
    file = ENCODERS[kind](enlarge(image, size))
    return f"data:{REPRESENTATIONS[kind].media_type};base64,{base64.b64encode(file).decode()}"


def npy_response(request: InferenceRequest, latents: Latents) -> Response:
    """Latents (N, L) float32 as an npy file."""
    return file_response(request, write_npy(latents))


def file_response(request: InferenceRequest, content: bytes) -> Response:
    """A file in the format that was chosen."""
    headers = {"X-Model": request.manifest.id, **_vary(request)}
    return Response(content, headers=headers, media_type=REPRESENTATIONS[request.format].media_type)


def json_response(request: InferenceRequest, fields: Fields) -> Response:
    """JSON of the model and these fields; arrays are written from their memory, float32 as the shortest text
    that gives it back."""
    content = {"model": request.manifest.id, **fields}
    text = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(text, headers=_vary(request), media_type=REPRESENTATIONS["json"].media_type)


def _vary(request: InferenceRequest, *more: str) -> dict[str, str]:
    """What other than the address decides the answer; for JSON app.server.compression adds to it."""
    names = ("Accept", *more) if request.format_named_in is None else more
    if request.settings.cors_origins:  # else a cache gives a page of one origin what was made for another's
        names = (*names, "Origin")
    return {"Vary": ", ".join(names)} if names else {}


async def repeatable_response(
    request: InferenceRequest,
    query: Options,
    answer: Callable[[], Awaitable[Response]],
    *,
    immutable: bool = False,
) -> Response:
    """The answer to a GET that always gives the same: it may be kept, and a client that has it is told so
    with 304, before there is any work. One that is `immutable` may be kept for good."""
    reach = "private" if request.settings.needs_key else "public"
    age = f"{YEAR_SECONDS}, immutable" if immutable else str(SEEDED_CACHE_SECONDS)
    headers = {"ETag": _entity_tag(request, query), "Cache-Control": f"{reach}, max-age={age}"}
    if is_known(request.headers, headers["ETag"]):
        encodings = ("Accept-Encoding",) if request.format == "json" else ()
        return Response(status_code=304, headers=headers | _vary(request, *encodings))
    response = await answer()
    response.headers.update(headers)
    return response


def _entity_tag(request: InferenceRequest, query: Options) -> str:
    """The model, and a digest of all that decides the bytes. JSON has a weak tag, as it may be packed."""
    manifest, graphs = request.manifest, request.graphs
    codes = () if manifest.codes is None else manifest.codes.all()
    files = (manifest.files.graphs(graphs.decoder)[1], manifest.files.prior, *codes)
    parts = [file.sha256 for file in files if file is not None]
    parts += [graphs.provider, *VERSIONS]
    parts += [route_path(request.scope), request.format, query.model_dump_json(exclude={"format"})]
    tag = f'"{manifest.id}:{digest(parts)}"'
    return f"W/{tag}" if request.format == "json" else tag
