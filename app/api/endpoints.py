"""Endpoints of the model: each is declared here once, with its query, bodies, answers and errors."""

from typing import Annotated

from fastapi import Query
from starlette.responses import Response

from app.api.bodies import IMAGE_FIELD
from app.api.inference_request import InferenceRequest
from app.api.json_body import parse_json
from app.api.openapi import BODY_ERRORS, QUEUE_ERRORS, answers, image_bodies, json_body, problems
from app.api.responses import Fields, cache_control, image_response, json_response
from app.api.routing import InferenceRoute, Router
from app.api.schemas import (
    DEFAULT_STEPS,
    DecodeAnswer,
    EncodeAnswer,
    EncodeQuery,
    ImageQuery,
    LatentsBody,
    PathAnswer,
    PathBody,
    PathForm,
    PathOptions,
    PathQuery,
    PicturesForm,
    ReconstructAnswer,
    ReconstructQuery,
    SampleAnswer,
    SampleOptions,
    SampleQuery,
)
from app.api.validation import check_path, from_form, from_json, merged, path_options
from app.errors import TooManyItems, UnsupportedBody
from app.model.interpolation import even_lambdas
from app.model.latents import Latents, new_seed, posterior_draws
from app.server.disconnect import CancelOnDisconnect

router = Router(route_class=InferenceRoute, tags=["model"], default_response_class=Response)


@router.post(
    "/encode",
    summary="Images to latents",
    openapi_extra=image_bodies(PicturesForm),
    responses=answers(EncodeAnswer, EncodeQuery) | problems(*BODY_ERRORS, 406, *QUEUE_ERRORS),
)
async def encode(request: InferenceRequest, query: Annotated[EncodeQuery, Query()]) -> Response:
    """The posterior of each image: mean and standard deviation."""
    if query.refine:
        request.vae.check_refines()
    files = await request.image_files()
    with CancelOnDisconnect(request):
        images = await request.decode(files)
        posterior = await request.vae.encode(images, request.timings, refine=query.refine)
    latents = posterior.mean
    if query.sample:
        latents = posterior_draws(posterior.mean, posterior.std, _seed(query.seed))
    return json_response({"model": request.vae.manifest.id, "latents": latents, "std": posterior.std})


@router.post(
    "/decode",
    summary="Latents to images",
    openapi_extra=json_body(LatentsBody),
    responses=answers(DecodeAnswer, ImageQuery, "X-Model") | problems(*BODY_ERRORS, 406, 409, *QUEUE_ERRORS),
)
async def decode(request: InferenceRequest, query: Annotated[ImageQuery, Query()]) -> Response:
    """One latent gives its image, several give one grid, row by row. As JSON, a data URL for each."""
    latents = request.latents_in(await request.json_body(LatentsBody))
    request.check_output(len(latents), query.size)
    with CancelOnDisconnect(request):
        images = await request.vae.decode(latents, request.timings)
        return await image_response(request, images, {}, size=query.size)


@router.post(
    "/reconstruct",
    summary="Images to latents and back",
    openapi_extra=image_bodies(PicturesForm),
    responses=answers(ReconstructAnswer, ReconstructQuery, "X-Model")
    | problems(*BODY_ERRORS, 406, *QUEUE_ERRORS),
)
async def reconstruct(request: InferenceRequest, query: Annotated[ReconstructQuery, Query()]) -> Response:
    """Each image as the model remembers it; as JSON also latents and measures of likeness."""
    if query.refine:
        request.vae.check_refines()
    files = await request.image_files()
    request.check_output(len(files), query.size)
    with CancelOnDisconnect(request):
        originals = await request.decode(files)
        measure = request.format == "json"
        found = await request.vae.reconstruct(
            originals, request.timings, refine=query.refine, measure=measure
        )
        fields: Fields = {"latents": found.posterior.mean, "std": found.posterior.std}
        if found.quality is not None:
            fields |= {"psnr": found.quality.psnr, "ssim": found.quality.ssim}
        return await image_response(request, found.images, fields, size=query.size)


@router.post(
    "/sample",
    summary="New cars",
    openapi_extra=json_body(SampleOptions, required=False),
    responses=answers(SampleAnswer, ImageQuery, "X-Model", "X-Seed")
    | problems(*BODY_ERRORS, 406, *QUEUE_ERRORS),
)
async def sample(request: InferenceRequest, query: Annotated[SampleQuery, Query()]) -> Response:
    """Images of latents drawn from the prior. An empty body takes every default."""
    body = await request.body()
    if body and not request.has_json:
        raise UnsupportedBody("send JSON with the content type application/json, or an empty body")
    options = from_json(SampleOptions, parse_json(body)) if body else SampleOptions()
    return await _draw(request, merged(SampleOptions, options, query), query.size)


@router.get(
    "/sample",
    summary="New cars, by address",
    responses=answers(SampleAnswer, SampleQuery, "X-Model", "X-Seed")
    | problems(406, 413, 422, *QUEUE_ERRORS),
)
async def sample_by_query(request: InferenceRequest, query: Annotated[SampleQuery, Query()]) -> Response:
    """The same as POST /sample, for use as the source of an image. With a seed the answer may be cached."""
    answer = await _draw(request, query, query.size)
    answer.headers["Cache-Control"] = cache_control(request, repeatable=query.seed is not None)
    return answer


async def _draw(request: InferenceRequest, options: SampleOptions, size: int | None) -> Response:
    if options.count > request.settings.max_items:
        raise TooManyItems(f"{options.count} pictures; at most {request.settings.max_items} are allowed")
    request.check_output(options.count, size)
    seed = _seed(options.seed)
    with CancelOnDisconnect(request):
        drawn = await request.vae.sample(
            options.count, seed, options.temperature, options.prior, request.timings
        )
        fields: Fields = {"seed": seed, "latents": drawn.latents}
        answer = await image_response(request, drawn.images, fields, size=size)
    answer.headers["X-Seed"] = str(seed)
    return answer


@router.post(
    "/interpolate",
    summary="A path through latent space",
    openapi_extra=json_body(PathBody, form=PathForm),
    responses=answers(PathAnswer, PathQuery, "X-Model") | problems(*BODY_ERRORS, 406, 409, *QUEUE_ERRORS),
)
async def interpolate(request: InferenceRequest, query: Annotated[PathQuery, Query()]) -> Response:
    """Frames on the way along 2 to 16 latents or images: one row of them, an animation (gif), or JSON."""
    if request.has_json:
        body = await request.json_body(PathBody)
        given: Latents | list[bytes] = request.latents_in(body)
        options = path_options(body, query)
    else:
        upload = await request.upload()
        given = upload.images
        options = from_form(PathOptions, upload.fields, IMAGE_FIELD)
    options = merged(PathOptions, options, query)
    check_path(options, len(given), query.model_fields_set)
    lambdas = options.lambdas or even_lambdas(options.steps or DEFAULT_STEPS)
    request.check_output(len(lambdas), query.size, columns=len(lambdas))
    with CancelOnDisconnect(request):
        if isinstance(given, list):
            waypoints = (await request.vae.encode(await request.decode(given), request.timings)).mean
        else:
            waypoints = given
        path = await request.vae.interpolate(waypoints, lambdas, options.method, request.timings)
        fields: Fields = {"lambdas": lambdas, "latents": path.latents}
        return await image_response(request, path.images, fields, size=query.size, columns=len(lambdas))


def _seed(given: int | None) -> int:
    return new_seed() if given is None else given
