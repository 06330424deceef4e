"""Responses: an image or a grid of several in the format that was chosen, or JSON with data URLs."""

import base64
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
from starlette.responses import Response

from app.api.content_negotiation import REPRESENTATIONS, Format
from app.api.inference_request import InferenceRequest
from app.images.arrays import ImageArray
from app.images.encode import encode_gif, encode_jpeg, encode_webp, enlarge, grid
from app.images.png import encode_png

Fields = dict[str, Any]

QUICK_BYTES = 40_000
"""Bytes of images that are encoded as PNG on the event loop, at 3 to 4 ns each."""

SEEDED_CACHE_SECONDS = 3600
"""How long GET /sample with a seed may be kept: it changes only when another model is served."""

ENCODERS: dict[Format, Callable[[ImageArray], bytes]] = {
    "png": encode_png,
    "jpeg": encode_jpeg,
    "webp": encode_webp,
}


async def image_response(
    request: InferenceRequest,
    images: ImageArray,
    fields: Fields,
    *,
    size: int | None,
    columns: int | None = None,
) -> Response:
    """Images in the format that the request wants.

    Args:
        images: (N, height, width, 3) uint8.
        fields: what stands beside them in JSON.
        size: pixels of the longer edge of each; None leaves them as they are.
        columns: of the grid that several make; by default it is as square as can be.
    """
    model_id = request.vae.manifest.id
    # Small ones take less time than it takes to hand them to another thread.
    here = size is None and request.format in ("png", "json") and images.nbytes <= QUICK_BYTES
    if request.format == "json":
        urls = await request.in_pool("encode", partial(_data_url, size=size), list(images), here=here)
        return json_response({"model": model_id, **fields, "images": urls})
    if request.format == "gif":
        encode: Callable[[ImageArray], bytes] = partial(encode_gif, longer_edge=size)
    else:
        encode = partial(_grid, columns=columns, size=size, encode=ENCODERS[request.format])
    (content,) = await request.in_pool("encode", encode, [images], here=here)
    headers = {"X-Model": model_id, "Vary": "Accept"}
    return Response(content, headers=headers, media_type=REPRESENTATIONS[request.format].media_type)


def _grid(
    images: ImageArray, columns: int | None, size: int | None, encode: Callable[[ImageArray], bytes]
) -> bytes:
    """One file of all images: as they are, or laid out in rows of `columns`."""
    return encode(grid([enlarge(image, size) for image in images], columns))


def _data_url(image: ImageArray, size: int | None) -> str:
    file = encode_png(enlarge(image, size))
    return "data:image/png;base64," + base64.b64encode(file).decode()


def json_response(content: Fields) -> Response:
    """JSON; arrays are written from their memory, float32 as the shortest text that gives it back."""
    text = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(text, headers={"Vary": "Accept"}, media_type=REPRESENTATIONS["json"].media_type)


def cache_control(request: InferenceRequest, *, repeatable: bool) -> str:
    """The Cache-Control of an answer to GET: kept where the same request gives the same answer."""
    if not repeatable:
        return "no-store"
    reach = "private" if request.settings.needs_key else "public"
    return f"{reach}, max-age={SEEDED_CACHE_SECONDS}"
