"""Endpoints that are pictures: /c/<code> with the suffix of a format is the picture of that code."""

from functools import partial
from typing import Annotated

from fastapi import Query
from starlette.responses import Response

from app.api.content_negotiation import REPRESENTATIONS
from app.api.inference_request import InferenceRequest
from app.api.openapi import QUEUE_ERRORS, file_answer, kept, path_text, problems
from app.api.points import points_of_codes
from app.api.responses import ENCODERS, file_response, repeatable_response
from app.api.routing import InferenceRoute, Router
from app.api.schemas import CarQuery
from app.codes.content import CodeContent
from app.errors import NotOffered
from app.images.arrays import ImageArray
from app.images.encode import enlarge
from app.server.disconnect import CancelOnDisconnect

PLACE = "path.code"

router = Router(route_class=InferenceRoute, tags=["model"], default_response_class=Response)


async def car(request: InferenceRequest, query: Annotated[CarQuery, Query()]) -> Response:
    """The picture of a code, in the shape of the original. It is always the same and may be kept for good."""
    if not request.reads_codes:
        raise NotOffered(f"{request.manifest.id} has no codes, so there are no pictures of them")
    text = request.path_params["code"]
    request.take_code(PLACE, text)
    request.check_output(1, query.size)
    return await repeatable_response(request, query, partial(_draw, request, query, text), immutable=True)


async def _draw(request: InferenceRequest, query: CarQuery, text: str) -> Response:
    points = await points_of_codes(request, [(PLACE, text)])
    reader = request.reader
    assert reader is not None
    if not query.letterbox:
        left, top, right, bottom = reader.box(points.contents[0])
        request.check_output(1, query.size, of=(right - left, bottom - top))

    def draw(pair: tuple[CodeContent, ImageArray]) -> bytes:
        picture = reader.picture(*pair)
        image = picture.image if query.letterbox else picture.cropped()
        return ENCODERS[request.format](enlarge(image, query.size))

    with CancelOnDisconnect(request):
        (decoded,) = await request.decoder.decode(points.latents, request.timings)
        (content,) = await request.in_pool("encode", draw, [(points.contents[0], decoded)])
        return file_response(request, content)


for name in ENCODERS:
    media_type = REPRESENTATIONS[name].media_type
    router.add_suffixed_route(
        "/c/{code}",
        name,
        car,
        summary=f"The picture of a code, as {REPRESENTATIONS[name].suffix}",
        openapi_extra=path_text("code", "a code, as /compress gives it"),
        responses=kept(file_answer(media_type, "X-Model")) | problems(400, 404, 409, 422, *QUEUE_ERRORS),
    )
