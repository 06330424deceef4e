"""Endpoint that makes codes of images or of points of the latent space."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import numpy as np
from fastapi import Query
from numpy.typing import NDArray
from PIL import Image
from starlette.responses import Response

from app.api.content_negotiation import Format
from app.api.inference_request import InferenceRequest
from app.api.openapi import BODY_ERRORS, QUEUE_ERRORS, answers, image_bodies, json_body, problems
from app.api.points import Points, images_of, points_in_body
from app.api.responses import data_url, file_response, json_response
from app.api.routing import InferenceRoute, Router
from app.api.schemas import CompressAnswer, CompressQuery, LatentsBody, PicturesForm
from app.codes import wire
from app.errors import InvalidField, NotOffered
from app.images.arrays import ImageArray
from app.images.letterbox import fit
from app.images.other_formats.compare import OtherFormat
from app.inference.codes import Codes
from app.inference.packer_process import Original, PackedImage
from app.server.disconnect import CancelOnDisconnect

router = Router(route_class=InferenceRoute, tags=["model"], default_response_class=Response)

BODIES = image_bodies(PicturesForm)
BODIES["requestBody"]["content"] |= json_body(LatentsBody)["requestBody"]["content"]


@router.post(
    "/compress",
    summary="Images to codes",
    openapi_extra=BODIES,
    responses=answers(CompressAnswer, CompressQuery, "X-Model")
    | problems(*BODY_ERRORS, 404, 406, 409, *QUEUE_ERRORS),
)
async def compress(request: InferenceRequest, query: Annotated[CompressQuery, Query()]) -> Response:
    """Each image as a string of at most so many bytes, of which /decode makes it again. Of latents and codes
    it is their decoded image that is coded: codes of an older model become those of the served one."""
    codes = request.codes
    if codes is None:
        raise NotOffered(f"{request.vae.manifest.id} has no codes")
    if query.refine:
        request.vae.check_refines()
    codes.check_room()  # rather than receive a body only to refuse it
    sent = await _sent(request)
    _check_bin(request, query, len(sent.latents) if isinstance(sent, Points) else len(sent))
    with CancelOnDisconnect(request):
        originals, likeness = await _originals(request, query, codes, sent)
        with request.naming_images(len(originals)):
            packed = await codes.pack(originals, query.bytes, request.timings, others=query.others)
        request.count_codes("written", [len(code.code) for image in packed for code in image.codes])
        if request.format == "bin":
            return file_response(request, packed[0].codes[0].code)
        encoded = [image.encoded for image in packed if image.encoded is not None]
        if encoded:
            likeness = request.vae.likeness(np.stack(encoded))
        items = [await _item(request, query, image) for image in packed]
        for number, item in enumerate(items):
            item["likeness"] = None if likeness is None else round(float(likeness[number]), 4)
        return json_response(request, {"items": items})


Likeness = NDArray[np.float64] | None
"""Of each image, as Posterior has it; None where nobody has asked for it."""


async def _sent(request: InferenceRequest) -> Points | list[bytes]:
    """The points or the files in a body."""
    if request.has_json or request.has_npy:
        points, _ = await points_in_body(request, LatentsBody)
        return points
    return await request.image_files()


async def _originals(
    request: InferenceRequest, query: CompressQuery, codes: Codes, sent: Points | list[bytes]
) -> tuple[list[Original], Likeness]:
    """What is to be coded, and the likeness where that is known before."""
    refine = request.vae.refines if query.refine is None else query.refine
    if isinstance(sent, Points):
        images = await images_of(request, sent)
        _, height, width, _ = images.shape
        boxes = [request.reader.box(each) for each in sent.contents] if request.reader else []
        sizes = [(right - left, bottom - top) for left, top, right, bottom in boxes]
        if request.decoder is request.vae:
            sizes = sizes or [(width, height)] * len(images)
            return [Original(*each) for each in zip(images, sizes, sent.latents, strict=True)], None
        # The latents of another model mean nothing to this one, but their images do.
        request.take_served()
        images = await _fitted(request, images, boxes)
    elif codes.encodes:
        return [Original(file, refine=refine) for file in sent], None
    else:
        images, sizes = await request.decode_sized(sent)
    if codes.encodes:
        return [Original(*each, refine=refine) for each in zip(images, sizes, strict=True)], None
    posterior = await request.vae.encode(images, request.timings, refine=refine)
    originals = [Original(*each) for each in zip(images, sizes, posterior.mean, strict=True)]
    return originals, posterior.likeness


async def _fitted(
    request: InferenceRequest, images: ImageArray, boxes: Sequence[tuple[int, int, int, int]]
) -> ImageArray:
    """What lies in the boxes of images of another model, fitted to the size of the served one."""
    size = request.manifest.image_size
    parts = [
        image[top:bottom, left:right] for image, (left, top, right, bottom) in zip(images, boxes, strict=True)
    ]
    return np.stack([fit(Image.fromarray(part), size.width, size.height) for part in parts])


def _check_bin(request: InferenceRequest, query: CompressQuery, images: int) -> None:
    if request.format == "bin" and images * len(query.bytes) > 1:
        message = f"must be json: bin is one code, and there are {images * len(query.bytes)}"
        raise InvalidField([(request.format_named_in or "Accept", message)])


async def _item(request: InferenceRequest, query: CompressQuery, packed: PackedImage) -> dict[str, Any]:
    codes = packed.codes
    item: dict[str, Any] = {
        "codes": [wire.to_text(each.code) for each in codes],
        "bytes": [len(each.code) for each in codes],
        "psnr": np.array([each.psnr for each in codes]),
        "ssim": np.array([each.ssim for each in codes]),
        "box": codes[0].box,
    }
    if query.images != "none":
        url = partial(data_url, kind=query.images)
        item["images"] = await request.in_pool("encode", url, [each.image for each in codes])
    if packed.others:
        others = sorted(packed.others, key=lambda other: query.others.index(other.name))
        show = partial(_shown, kind="webp" if query.images == "none" else query.images)
        item["others"] = await request.in_pool("encode", show, others)
    return item


def _shown(other: OtherFormat, kind: Format) -> dict[str, Any]:
    """An image in another format, as ImageInFormat has it."""
    distinct = {id(each): each for each in other.renditions if each is not None}
    urls = {key: data_url(each.image, kind) for key, each in distinct.items()}
    return {
        "format": other.name,
        "bytes": [each and len(each.data) for each in other.renditions],
        "psnr": [each and each.psnr for each in other.renditions],
        "images": [each and urls[id(each)] for each in other.renditions],
        "smallest": other.smallest,
    }
