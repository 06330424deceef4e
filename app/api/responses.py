"""Images and arrays -> the response in the format that was chosen."""

import base64
from collections.abc import Callable
from functools import partial

import orjson
from starlette.responses import Response

from app.api.content_negotiation import MEDIA_TYPES, Format
from app.api.inference_request import Call, Fields, Pictures
from app.images.encode import encode_gif, encode_jpeg, encode_webp, enlarge, grid
from app.images.letterbox import Pixels
from app.images.png import encode_png

QUICK_BYTES = 40_000
"""Pixels that are encoded as PNG on the event loop, at 3 to 4 ns a byte."""

SEEDED_CACHE_SECONDS = 3600
"""How long GET /sample with a seed may be kept: it changes only when another model is served."""


async def image_response(
    call: Call, pictures: Pictures, fields: Fields, columns: int | None = None
) -> Response:
    """The pictures in the format that was chosen; `fields` stand beside them in JSON."""
    model_id = call.vae.manifest.id
    if call.format == "json":
        draw_url = partial(_data_url, size=call.size)
        urls = await call.in_pool("encode", draw_url, list(pictures), here=_is_quick(call, pictures))
        return json_response({"model": model_id, **fields, "images": urls})
    if call.format == "gif":
        animate = partial(encode_gif, longer_edge=call.size)
        (content,) = await call.in_pool("encode", animate, [pictures])
    else:
        draw = partial(_sheet, columns=columns, size=call.size, write=WRITERS[call.format])
        (content,) = await call.in_pool("encode", draw, [pictures], here=_is_quick(call, pictures))
    headers = {"X-Model": model_id, "Vary": "Accept"}
    return Response(content, headers=headers, media_type=MEDIA_TYPES[call.format])


def _is_quick(call: Call, pictures: Pictures) -> bool:
    """Whether pictures are encoded in less time than it takes to hand them to another thread."""
    return call.size is None and call.format in ("png", "json") and pictures.nbytes <= QUICK_BYTES


def _sheet(
    pictures: Pictures, columns: int | None, size: int | None, write: Callable[[Pixels], bytes]
) -> bytes:
    """One file of all pictures: as they are, or laid out in rows of `columns`."""
    return write(grid([enlarge(picture, size) for picture in pictures], columns))


def _data_url(picture: Pictures, size: int | None) -> str:
    file = encode_png(enlarge(picture, size))
    return "data:image/png;base64," + base64.b64encode(file).decode()


def json_response(content: Fields) -> Response:
    """Arrays are written straight from their memory; float32 as the shortest text that gives it back."""
    text = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(text, headers={"Vary": "Accept"}, media_type=MEDIA_TYPES["json"])


def cache_control(call: Call, repeatable: bool) -> str:
    if not repeatable:
        return "no-store"
    reach = "private" if call.settings.needs_key else "public"
    return f"{reach}, max-age={SEEDED_CACHE_SECONDS}"


WRITERS: dict[Format, Callable[[Pixels], bytes]] = {
    "png": encode_png,
    "jpeg": encode_jpeg,
    "webp": encode_webp,
}
