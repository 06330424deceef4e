"""Points of the latent space that a request gives: latents, or codes, whose images have a second layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.api.inference_request import InferenceRequest
from app.api.json_body import parse_json
from app.api.schemas import Options
from app.api.validation import check_numbers, known_model, listed_codes, read_latents, refuse_unknown
from app.codes import wire
from app.codes.codec import CodeImage
from app.codes.content import CodeContent
from app.errors import DamagedCode, UnsupportedBody, WrongModel
from app.images.arrays import ImageArray
from app.images.worker_pool import ItemError
from app.inference.codes import faded
from app.model.interpolation import fades
from app.model.latents import Latents
from app.model.npy import read_npy


@dataclass(frozen=True, eq=False)
class Points:
    """N points of the latent space.

    Attributes:
        latents: (N, L) float32; where codes were given, those of their first layers.
        contents: what the codes say; empty where latents were given.
    """

    latents: Latents
    contents: Sequence[CodeContent] = ()


async def points_in_body(request: InferenceRequest, model: type[Options]) -> tuple[Points, dict[str, Any]]:
    """The points in the body of a request, at most `max_items`: an npy file of latents, or JSON.

    Args:
        model: has all fields that a body of JSON may have.

    Returns:
        them, and the whole object where the body is JSON; it is empty where it is an npy file.
    """
    manifest, max_items = request.vae.manifest, request.settings.max_items
    if request.has_npy:
        latents = read_npy(await request.body(), manifest.latent_dim, max_items)
        check_numbers(latents)
        return Points(latents), {}
    if not request.has_json:
        raise UnsupportedBody(
            "send JSON with the content type application/json, or an npy file as application/x-npy"
        )
    body = parse_json(await request.body())
    refuse_unknown(model, body, request.query_names)
    codes = listed_codes(body, max_items)
    if codes is not None:
        request.take_code(*codes[0])
        known_model(body, request.manifest.id)
        return await points_of_codes(request, codes), body
    known_model(body, manifest.id)
    return Points(read_latents(body, manifest.latent_dim, max_items)), body


async def points_of_codes(request: InferenceRequest, codes: Sequence[tuple[str, str]]) -> Points:
    """The points of codes of one model, each with its place in the request.

    Raises:
        DamagedCode, WrongModel: name the first one in order.
        InvalidField: no codes are read here.
    """
    request.take_code(*codes[0])
    await request.open_model()
    reader = request.reader
    assert reader is not None
    places, texts = zip(*codes, strict=True)
    try:
        contents = await request.in_pool("unpack", lambda text: reader.read(wire.from_text(text)), texts)
    except ItemError as failure:
        place = places[failure.index]
        if isinstance(failure.error, WrongModel):
            raise WrongModel(
                f"{place}: the code is not of {request.manifest.id}, as {places[0]} is; codes of a request "
                "are of one model"
            ) from failure
        if isinstance(failure.error, DamagedCode):
            raise DamagedCode(f"{place}: {failure.error}") from failure
        raise failure.error from failure
    request.count_codes("read", [len(text) * 3 // 4 for text in texts])
    return Points(reader.latents(contents), contents)


async def images_of(request: InferenceRequest, points: Points) -> ImageArray:
    """The images of points: (N, height, width, 3) uint8."""
    decoded = await request.decoder.decode(points.latents, request.timings)
    if not points.contents:
        return decoded
    return np.stack([each.image for each in await code_images(request, points, decoded)])


async def code_images(request: InferenceRequest, points: Points, decoded: ImageArray) -> list[CodeImage]:
    """The images of points that were given as codes; `decoded` are those of their latents."""
    reader = request.reader
    assert reader is not None
    pairs = list(zip(points.contents, decoded, strict=True))
    return await request.in_pool("restore", lambda pair: reader.picture(*pair), pairs)


async def frames_along(
    request: InferenceRequest, points: Points, lambdas: Sequence[float], latents: Latents
) -> ImageArray:
    """The images of latents (F, L) that lie at `lambdas` on a path along points.

    On points that are codes they are the codes' images; what these have beyond their latents' goes out and
    comes in on the way.
    """
    decoded = await request.decoder.decode(latents, request.timings)
    if not points.contents:
        return decoded
    bases = await request.decoder.decode(points.latents, request.timings)
    ends = [each.image for each in await code_images(request, points, bases)]
    return faded(decoded, ends, bases, fades(len(ends), lambdas))
