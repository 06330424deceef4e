"""The five endpoints: parse, call, answer."""

import base64
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app import images
from app.errors import InvalidField, PictureError, TooManyItems, UnreadablePicture, UnsupportedBody
from app.guards import WhileConnected
from app.latents import Latents, even_lambdas, new_seed, posterior_draws
from app.negotiation import (
    ANIMATIONS,
    JSON,
    MEDIA_TYPES,
    PICTURE_FIELD,
    PICTURES,
    Format,
    Upload,
    body_type,
    choose_format,
    is_json,
    parse_json,
    parse_pictures,
    read_body,
)
from app.png import encode_png
from app.pool import ItemError, TookTooLong
from app.schemas import (
    DEFAULT_STEPS,
    EncodeOptions,
    LatentsBody,
    Options,
    PathBody,
    PathOptions,
    PictureOptions,
    SampleOptions,
    check_path,
    from_json,
    from_query,
    from_strings,
    read_latents,
    refuse_unknown,
)
from app.service import service_of, stages_of

Pictures = NDArray[np.uint8]
Fields = dict[str, Any]
AnyOptions = TypeVar("AnyOptions", bound=Options)
Item = TypeVar("Item")
Result = TypeVar("Result")

QUICK_BYTES = 40_000
"""Pixels that are encoded as PNG on the event loop, at 3 to 4 ns a byte."""

SEEDED_CACHE_SECONDS = 3600
"""How long GET /sample with a seed may be kept: it changes only when another model is served."""


class Call:
    """One request on its way: what it is served with, and how it wants to be answered."""

    def __init__(self, request: Request, offered: Sequence[Format]) -> None:
        service = service_of(request)
        self.request = request
        self.settings = service.settings
        self.vae, self.pool = service.parts()
        self.stages = stages_of(request)
        self.format = choose_format(request, offered)
        self.size = self.options(PictureOptions).size if offered is not JSON else None

    def options(self, model: type[AnyOptions]) -> AnyOptions:
        """The query parameters that `model` knows."""
        return from_query(model, self.request.query_params) if self.request.scope["query_string"] else model()

    async def body(self) -> bytes:
        """The body of the request."""
        started = time.perf_counter()
        body = await read_body(self.request, self.settings.body_timeout)
        self.stages.add("read", time.perf_counter() - started)
        return body

    async def upload(self) -> Upload:
        """The body as pictures and the fields beside them."""
        self.pool.check_room()  # rather than receive a body only to refuse it
        content_type = self.request.headers.get("content-type", "")
        return parse_pictures(await self.body(), content_type, self.settings.max_items)

    async def in_pool(
        self, stage: str, work: Callable[[Item], Result], items: Sequence[Item], *, here: bool = False
    ) -> list[Result]:
        """Apply `work` to each item beside the event loop, or `here` on it; its time counts for a stage."""
        started = time.perf_counter()
        results = [work(item) for item in items] if here else await self.pool.map(work, items)
        self.stages.add(stage, time.perf_counter() - started)
        return results

    def check_output(self, pictures: int) -> None:
        """Refuse, before any work, an answer of too many pixels."""
        native = self.vae.manifest.image_size
        width, height = images.scaled_size(native.width, native.height, self.size)
        if pictures * width * height > self.settings.max_output_pixels:
            raise InvalidField(
                [
                    (
                        "query.size",
                        f"must be smaller: {pictures} pictures of {width} x {height} have more than "
                        f"{self.settings.max_output_pixels} pixels",
                    )
                ]
            )


async def encode(request: Request) -> Response:
    """POST /encode: pictures to latents."""
    call = Call(request, JSON)
    options = call.options(EncodeOptions)
    files = _files(await call.upload())
    with WhileConnected(request):
        posterior = await call.vae.encode(await _fitted(call, files), call.stages)
    latents = posterior.mean
    if options.sample:
        latents = posterior_draws(posterior.mean, posterior.std, _seed(options.seed))
    return _json({"model": call.vae.manifest.id, "latents": latents, "std": posterior.std})


async def decode(request: Request) -> Response:
    """POST /decode: latents to pictures."""
    call = Call(request, PICTURES)
    body = await _json_body(call, LatentsBody)
    latents = _latents(call, body)
    call.check_output(len(latents))
    with WhileConnected(request):
        pictures = await call.vae.decode(latents, call.stages)
        return await _answer(call, pictures, {})


async def reconstruct(request: Request) -> Response:
    """POST /reconstruct: pictures to latents and back."""
    call = Call(request, PICTURES)
    files = _files(await call.upload())
    call.check_output(len(files))
    with WhileConnected(request):
        fitted = await _fitted(call, files)
        again = await call.vae.reconstruct(fitted, call.stages, measure=call.format == "json")
        fields: Fields = {"latents": again.posterior.mean, "std": again.posterior.std}
        if again.quality is not None:
            fields |= {"psnr": again.quality.psnr, "ssim": again.quality.ssim}
        return await _answer(call, again.pictures, fields)


async def sample(request: Request) -> Response:
    """POST /sample and GET /sample: pictures drawn from the prior."""
    call = Call(request, PICTURES)
    by_body = request.method == "POST"
    options = await _sample_body(call) if by_body else call.options(SampleOptions)
    if options.count > call.settings.max_items:
        raise TooManyItems(f"{options.count} pictures; at most {call.settings.max_items} are allowed")
    call.check_output(options.count)
    seed = _seed(options.seed)
    with WhileConnected(request):
        drawn = await call.vae.sample(options.count, seed, options.temperature, options.prior, call.stages)
        answer = await _answer(call, drawn.pictures, {"seed": seed, "latents": drawn.latents})
    answer.headers["X-Seed"] = str(seed)
    if not by_body:
        answer.headers["Cache-Control"] = _cache_control(call, repeatable=options.seed is not None)
    return answer


async def interpolate(request: Request) -> Response:
    """POST /interpolate: frames on the way along latents or pictures."""
    call = Call(request, ANIMATIONS)
    if is_json(body_type(request)):
        body = await _json_body(call, PathBody)
        given: Latents | list[bytes] = _latents(call, body)
        options = from_json(
            PathOptions, {name: body[name] for name in PathOptions.model_fields if name in body}
        )
    else:
        upload = await call.upload()
        given = upload.pictures
        options = from_strings(PathOptions, _form_values(upload))
    check_path(options, len(given))
    lambdas = options.lambdas or even_lambdas(options.steps or DEFAULT_STEPS)
    call.check_output(len(lambdas))
    with WhileConnected(request):
        if isinstance(given, list):
            waypoints = (await call.vae.encode(await _fitted(call, given), call.stages)).mean
        else:
            waypoints = given
        path = await call.vae.interpolate(waypoints, lambdas, options.method, call.stages)
        fields: Fields = {"lambdas": lambdas, "latents": path.latents}
        return await _answer(call, path.pictures, fields, columns=len(lambdas))


async def _json_body(call: Call, model: type[Options]) -> dict[str, Any]:
    """The JSON object in the body, with no fields but those of `model`."""
    if not is_json(body_type(call.request)):
        raise UnsupportedBody("send JSON with the content type application/json")
    body = parse_json(await call.body())
    refuse_unknown(model, body)
    return body


async def _sample_body(call: Call) -> SampleOptions:
    body = await call.body()
    if not body:
        return SampleOptions()
    if not is_json(body_type(call.request)):
        raise UnsupportedBody("send JSON with the content type application/json, or an empty body")
    return from_json(SampleOptions, parse_json(body))


def _latents(call: Call, body: dict[str, Any]) -> Latents:
    manifest = call.vae.manifest
    return read_latents(body, manifest.id, manifest.latent_dim, call.settings.max_items)


def _files(upload: Upload) -> list[bytes]:
    """The pictures of an upload that is to have nothing else."""
    if upload.fields:
        raise InvalidField([(name, "unknown field") for name in upload.fields])
    if not upload.pictures:
        raise InvalidField([(PICTURE_FIELD, "must be given at least once")])
    return upload.pictures


def _form_values(upload: Upload) -> dict[str, str | list[str]]:
    """Form fields as PathOptions takes them: `lambdas` is a list, every other field has one value."""
    values: dict[str, str | list[str]] = {
        name: texts[0] if len(texts) == 1 else texts for name, texts in upload.fields.items()
    }
    if "lambdas" in values:
        values["lambdas"] = ",".join(upload.fields["lambdas"]).split(",")
    return values


async def _fitted(call: Call, files: list[bytes]) -> Pictures:
    """Decode files and fit them to the model's size: (N, H, W, 3) uint8."""
    size = call.vae.manifest.image_size
    read = partial(
        images.read_picture, width=size.width, height=size.height, max_pixels=call.settings.max_pixels
    )
    try:
        with call.vae.expecting(len(files)):
            pictures = await call.in_pool("decode", read, files)
    except ItemError as failure:
        place = f"image {failure.index + 1} of {len(files)}"
        if isinstance(failure.error, PictureError):
            raise type(failure.error)(f"{place}: {failure.error}") from failure
        if isinstance(failure.error, TookTooLong):
            seconds = call.settings.decode_timeout
            raise UnreadablePicture(f"{place}: it takes more than {seconds:g} s to decode") from failure
        raise
    return pictures[0][np.newaxis] if len(pictures) == 1 else np.stack(pictures)


def _seed(given: int | None) -> int:
    return new_seed() if given is None else given


async def _answer(call: Call, pictures: Pictures, fields: Fields, columns: int | None = None) -> Response:
    """The pictures in the format that was chosen; `fields` stand beside them in JSON."""
    model_id = call.vae.manifest.id
    if call.format == "json":
        draw_url = partial(_data_url, size=call.size)
        urls = await call.in_pool("encode", draw_url, list(pictures), here=_is_quick(call, pictures))
        return _json({"model": model_id, **fields, "images": urls})
    if call.format == "gif":
        animate = partial(images.encode_gif, longer_edge=call.size)
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
    pictures: Pictures, columns: int | None, size: int | None, write: Callable[[images.Pixels], bytes]
) -> bytes:
    """One file of all pictures: as they are, or laid out in rows of `columns`."""
    return write(images.grid([images.enlarge(picture, size) for picture in pictures], columns))


def _data_url(picture: Pictures, size: int | None) -> str:
    file = encode_png(images.enlarge(picture, size))
    return "data:image/png;base64," + base64.b64encode(file).decode()


def _json(content: Fields) -> Response:
    """Arrays are written straight from their memory; float32 as the shortest text that gives it back."""
    text = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(text, headers={"Vary": "Accept"}, media_type=MEDIA_TYPES["json"])


def _cache_control(call: Call, repeatable: bool) -> str:
    if not repeatable:
        return "no-store"
    reach = "private" if call.settings.needs_key else "public"
    return f"{reach}, max-age={SEEDED_CACHE_SECONDS}"


WRITERS: dict[Format, Callable[[images.Pixels], bytes]] = {
    "png": encode_png,
    "jpeg": images.encode_jpeg,
    "webp": images.encode_webp,
}

ROUTES = (
    Route("/encode", encode, methods=["POST"]),
    Route("/decode", decode, methods=["POST"]),
    Route("/reconstruct", reconstruct, methods=["POST"]),
    Route("/sample", sample, methods=["GET", "POST"]),
    Route("/interpolate", interpolate, methods=["POST"]),
)
