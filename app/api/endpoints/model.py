"""Endpoints of the model: each is declared here once, with its query, bodies, answers and errors."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated

from fastapi import Query
from starlette.responses import Response

from app.api.bodies import IMAGE_FIELD
from app.api.inference_request import InferenceRequest
from app.api.json_body import parse_json
from app.api.openapi import BODY_ERRORS, QUEUE_ERRORS, answers, image_bodies, json_body, kept, problems
from app.api.points import Points, frames_along, images_of, points_in_body, points_of_codes
from app.api.responses import (
    ANIMATIONS,
    Fields,
    image_response,
    json_response,
    latents_response,
    npy_response,
    repeatable_response,
)
from app.api.routing import InferenceRoute, Router
from app.api.schemas import (
    DEFAULT_STEPS,
    CodesQuery,
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
    WaypointsQuery,
)
from app.api.validation import check_path, from_form, from_json, merged, path_options
from app.errors import InvalidField, TooManyItems, UnsupportedBody
from app.inference.vae import Posterior
from app.model.interpolation import Method, even_lambdas
from app.model.latents import new_seed, posterior_draws
from app.server.disconnect import CancelOnDisconnect

router = Router(route_class=InferenceRoute, tags=["model"], default_response_class=Response)


@router.post(
    "/encode",
    summary="Images to latents",
    openapi_extra=image_bodies(PicturesForm),
    responses=answers(EncodeAnswer, EncodeQuery, "X-Model") | problems(*BODY_ERRORS, 406, *QUEUE_ERRORS),
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
    if request.format == "npy":
        return npy_response(request, latents)
    return json_response(request, {"latents": latents, "std": posterior.std} | _likeness(posterior))


@router.post(
    "/decode",
    summary="Latents to images",
    openapi_extra=json_body(LatentsBody),
    responses=answers(DecodeAnswer, ImageQuery, "X-Model") | problems(*BODY_ERRORS, 406, 409, *QUEUE_ERRORS),
)
async def decode(request: InferenceRequest, query: Annotated[ImageQuery, Query()]) -> Response:
    """One latent gives its image, several give one grid, row by row. As JSON, a data URL for each."""
    points, _ = await points_in_body(request, LatentsBody)
    return await _decode(request, points, query)


@router.get(
    "/decode",
    summary="Codes to images, by address",
    responses=kept(answers(DecodeAnswer, CodesQuery, "X-Model"))
    | problems(400, 406, 409, 413, 422, *QUEUE_ERRORS),
)
async def decode_by_query(request: InferenceRequest, query: Annotated[CodesQuery, Query()]) -> Response:
    """The same as POST /decode of codes, for use as the source of an image. The answer may be kept for
    good."""
    request.take_code("query.code[0]", query.code[0])

    async def answer() -> Response:
        return await _decode(request, await _points_in_query(request, query.code), query)

    return await repeatable_response(request, query, answer, immutable=True)


async def _decode(request: InferenceRequest, points: Points, query: ImageQuery) -> Response:
    request.check_output(len(points.latents), query.size)
    with CancelOnDisconnect(request):
        return await image_response(request, await images_of(request, points), {}, query)


async def _points_in_query(request: InferenceRequest, codes: Sequence[str]) -> Points:
    if len(codes) > request.settings.max_items:
        raise TooManyItems(f"{len(codes)} codes; at most {request.settings.max_items} are allowed")
    return await points_of_codes(request, [(f"query.code[{i}]", code) for i, code in enumerate(codes)])


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
        fields |= _likeness(found.posterior)
        if found.quality is not None:
            fields |= {"psnr": found.quality.psnr, "ssim": found.quality.ssim}
        return await image_response(request, found.images, fields, query)


@router.post(
    "/sample",
    summary="New cars",
    openapi_extra=json_body(SampleOptions, required=False),
    responses=answers(SampleAnswer, SampleQuery, "X-Model", "X-Seed")
    | problems(*BODY_ERRORS, 406, *QUEUE_ERRORS),
)
async def sample(request: InferenceRequest, query: Annotated[SampleQuery, Query()]) -> Response:
    """Images of latents drawn from the prior. An empty body takes every default."""
    body = await request.body()
    if body and not request.has_json:
        raise UnsupportedBody("send JSON with the content type application/json, or an empty body")
    values = parse_json(body) if body else {}
    options = from_json(SampleOptions, values, request.query_names)
    options = merged(SampleOptions, options, query)
    _check_sample(request, options, query)
    return await _draw(request, options, query)


@router.get(
    "/sample",
    summary="New cars, by address",
    responses=kept(answers(SampleAnswer, SampleQuery, "X-Model", "X-Seed"))
    | problems(406, 413, 422, *QUEUE_ERRORS),
)
async def sample_by_query(request: InferenceRequest, query: Annotated[SampleQuery, Query()]) -> Response:
    """The same as POST /sample, for use as the source of an image. With a seed the answer may be kept."""
    _check_sample(request, query, query)
    if query.seed is not None:
        return await repeatable_response(request, query, partial(_draw, request, query, query))
    answer = await _draw(request, query, query)
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _likeness(posterior: Posterior) -> Fields:
    """Whether images look like cars, as it is told."""
    return {"likeness": None if posterior.likeness is None else posterior.likeness.round(4)}


def _check_sample(request: InferenceRequest, options: SampleOptions, query: SampleQuery) -> None:
    if options.count > request.settings.max_items:
        raise TooManyItems(f"{options.count} pictures; at most {request.settings.max_items} are allowed")
    request.vae.check_prior(options.prior)
    request.check_output(options.count, query.size)


async def _draw(request: InferenceRequest, options: SampleOptions, query: SampleQuery) -> Response:
    seed = _seed(options.seed)
    with CancelOnDisconnect(request):
        latents = await request.vae.draw(options.count, seed, options.temperature, options.prior)
        decode = partial(request.vae.decode, latents, request.timings)
        answer = await latents_response(request, latents, {"seed": seed}, query, decode)
    answer.headers["X-Seed"] = str(seed)
    return answer


@router.post(
    "/interpolate",
    summary="A path through latent space",
    openapi_extra=json_body(PathBody, form=PathForm),
    responses=answers(PathAnswer, PathQuery, "X-Model") | problems(*BODY_ERRORS, 406, 409, *QUEUE_ERRORS),
)
async def interpolate(request: InferenceRequest, query: Annotated[PathQuery, Query()]) -> Response:
    """Frames on the way along 2 to 16 latents or images: one row of them, an animation, or JSON."""
    if request.has_json or request.has_npy:
        points, body = await points_in_body(request, PathBody)
        given: Points | list[bytes] = points
        waypoints = len(points.latents)
        options = path_options(body, waypoints, query) if body else PathOptions()
    else:
        upload = await request.upload()
        given = upload.images
        waypoints = len(given)
        options = from_form(PathOptions, upload.fields, IMAGE_FIELD, request.query_names)
    options = merged(PathOptions, options, query)
    lambdas = _lambdas(request, options, waypoints, query)
    with CancelOnDisconnect(request):
        if isinstance(given, list):
            given = Points((await request.vae.encode(await request.decode(given), request.timings)).mean)
        return await _walk(request, given, lambdas, options.method, query)


@router.get(
    "/interpolate",
    summary="A path through latent space, by address",
    responses=kept(answers(PathAnswer, WaypointsQuery, "X-Model"))
    | problems(400, 406, 409, 422, *QUEUE_ERRORS),
)
async def interpolate_by_query(
    request: InferenceRequest, query: Annotated[WaypointsQuery, Query()]
) -> Response:
    """The same as POST /interpolate along the cars of 2 to 16 seeds or codes, for use as the source of an
    image. The answer may be kept, that of codes for good."""
    seeds, codes = query.seed, query.code
    if (seeds is None) == (codes is None):
        raise InvalidField([("query.seed", "must be given, or else code: one of the two")])
    if codes is not None:
        request.take_code("query.code[0]", codes[0])
    lambdas = _lambdas(request, query, len(seeds or codes or ()), query)

    async def walk() -> Response:
        with CancelOnDisconnect(request):
            if seeds is not None:
                points = Points(await request.vae.draw_each(seeds))
            else:
                points = await _points_in_query(request, codes or ())
            return await _walk(request, points, lambdas, query.method, query)

    return await repeatable_response(request, query, walk, immutable=codes is not None)


def _lambdas(
    request: InferenceRequest, options: PathOptions, waypoints: int, query: PathQuery
) -> Sequence[float]:
    """Where on the path the frames are that are asked for; what cannot be is refused."""
    check_path(options, waypoints, query.model_fields_set)
    lambdas = options.lambdas or even_lambdas(options.steps or DEFAULT_STEPS)
    if query.animate:
        request.restrict(tuple(ANIMATIONS), f"must be one of {', '.join(ANIMATIONS)} where `animate` is true")
    request.check_output(len(lambdas), query.size, columns=len(lambdas), animated=query.animate)
    return lambdas


async def _walk(
    request: InferenceRequest, points: Points, lambdas: Sequence[float], method: Method, query: PathQuery
) -> Response:
    """The frames along waypoints, wherever these come from."""
    latents = request.decoder.path(points.latents, lambdas, method)
    return await latents_response(
        request,
        latents,
        {"lambdas": lambdas},
        query,
        partial(frames_along, request, points, lambdas, latents),
        columns=len(lambdas),
        animated=query.animate,
    )


def _seed(given: int | None) -> int:
    return new_seed() if given is None else given
