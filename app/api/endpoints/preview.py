"""Endpoint that shows images which browsers cannot."""

import math
from typing import Annotated

from fastapi import Query
from starlette.responses import Response

from app.api.bodies import IMAGE_FIELD
from app.api.inference_request import InferenceRequest
from app.api.openapi import BODY_ERRORS, QUEUE_ERRORS, answers, image_bodies, problems
from app.api.responses import ENCODERS, file_response
from app.api.routing import InferenceRoute, Router
from app.api.schemas import PicturesForm, PreviewQuery
from app.errors import InvalidField
from app.server.disconnect import CancelOnDisconnect

router = Router(route_class=InferenceRoute, tags=["model"], default_response_class=Response)


@router.post(
    "/preview",
    summary="An image that browsers can show",
    openapi_extra=image_bodies(PicturesForm),
    responses=answers(None, PreviewQuery, "X-Model") | problems(*BODY_ERRORS, 406, *QUEUE_ERRORS),
)
async def preview(request: InferenceRequest, query: Annotated[PreviewQuery, Query()]) -> Response:
    """One image of any kind that the service reads, HEIC or TIFF too, as it sees it: upright, in sRGB, on
    white; in its own shape, and no larger than it is."""
    files = await request.image_files()
    if len(files) > 1:
        raise InvalidField([(IMAGE_FIELD, f"must be given once, and not {len(files)} times")])
    with CancelOnDisconnect(request):
        longest = min(query.size, math.isqrt(request.settings.max_output_pixels))
        image = await request.decode_own_shape(files[0], longest)
        (content,) = await request.in_pool("encode", ENCODERS[request.format], [image])
    return file_response(request, content)
