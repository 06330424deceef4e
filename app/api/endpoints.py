"""The five endpoints: parse, call, answer."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.api.bodies import body_type, is_json
from app.api.content_negotiation import ANIMATIONS, JSON, PICTURES
from app.api.inference_request import (
    Call,
    Fields,
    choose_seed,
    decode_images,
    form_values,
    json_body,
    read_body_latents,
    sample_body,
    uploaded_images,
)
from app.api.responses import cache_control, image_response, json_response
from app.api.schemas import DEFAULT_STEPS, EncodeOptions, LatentsBody, PathBody, PathOptions, SampleOptions
from app.api.validation import check_path, from_json, from_strings
from app.errors import TooManyItems
from app.model.interpolation import even_lambdas
from app.model.latents import Latents, posterior_draws
from app.server.disconnect import WhileConnected


async def encode(request: Request) -> Response:
    """POST /encode: pictures to latents."""
    call = Call(request, JSON)
    options = call.options(EncodeOptions)
    files = uploaded_images(await call.upload())
    with WhileConnected(request):
        posterior = await call.vae.encode(await decode_images(call, files), call.stages)
    latents = posterior.mean
    if options.sample:
        latents = posterior_draws(posterior.mean, posterior.std, choose_seed(options.seed))
    return json_response({"model": call.vae.manifest.id, "latents": latents, "std": posterior.std})


async def decode(request: Request) -> Response:
    """POST /decode: latents to pictures."""
    call = Call(request, PICTURES)
    body = await json_body(call, LatentsBody)
    latents = read_body_latents(call, body)
    call.check_output(len(latents))
    with WhileConnected(request):
        pictures = await call.vae.decode(latents, call.stages)
        return await image_response(call, pictures, {})


async def reconstruct(request: Request) -> Response:
    """POST /reconstruct: pictures to latents and back."""
    call = Call(request, PICTURES)
    files = uploaded_images(await call.upload())
    call.check_output(len(files))
    with WhileConnected(request):
        fitted = await decode_images(call, files)
        again = await call.vae.reconstruct(fitted, call.stages, measure=call.format == "json")
        fields: Fields = {"latents": again.posterior.mean, "std": again.posterior.std}
        if again.quality is not None:
            fields |= {"psnr": again.quality.psnr, "ssim": again.quality.ssim}
        return await image_response(call, again.pictures, fields)


async def sample(request: Request) -> Response:
    """POST /sample and GET /sample: pictures drawn from the prior."""
    call = Call(request, PICTURES)
    by_body = request.method == "POST"
    options = await sample_body(call) if by_body else call.options(SampleOptions)
    if options.count > call.settings.max_items:
        raise TooManyItems(f"{options.count} pictures; at most {call.settings.max_items} are allowed")
    call.check_output(options.count)
    seed = choose_seed(options.seed)
    with WhileConnected(request):
        drawn = await call.vae.sample(options.count, seed, options.temperature, options.prior, call.stages)
        answer = await image_response(call, drawn.pictures, {"seed": seed, "latents": drawn.latents})
    answer.headers["X-Seed"] = str(seed)
    if not by_body:
        answer.headers["Cache-Control"] = cache_control(call, repeatable=options.seed is not None)
    return answer


async def interpolate(request: Request) -> Response:
    """POST /interpolate: frames on the way along latents or pictures."""
    call = Call(request, ANIMATIONS)
    if is_json(body_type(request)):
        body = await json_body(call, PathBody)
        given: Latents | list[bytes] = read_body_latents(call, body)
        options = from_json(
            PathOptions, {name: body[name] for name in PathOptions.model_fields if name in body}
        )
    else:
        upload = await call.upload()
        given = upload.pictures
        options = from_strings(PathOptions, form_values(upload))
    check_path(options, len(given))
    lambdas = options.lambdas or even_lambdas(options.steps or DEFAULT_STEPS)
    call.check_output(len(lambdas))
    with WhileConnected(request):
        if isinstance(given, list):
            waypoints = (await call.vae.encode(await decode_images(call, given), call.stages)).mean
        else:
            waypoints = given
        path = await call.vae.interpolate(waypoints, lambdas, options.method, call.stages)
        fields: Fields = {"lambdas": lambdas, "latents": path.latents}
        return await image_response(call, path.pictures, fields, columns=len(lambdas))


ROUTES = (
    Route("/encode", encode, methods=["POST"]),
    Route("/decode", decode, methods=["POST"]),
    Route("/reconstruct", reconstruct, methods=["POST"]),
    Route("/sample", sample, methods=["GET", "POST"]),
    Route("/interpolate", interpolate, methods=["POST"]),
)
