"""One inference request: what it is served with, its options, its body, and its decoded"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request

from app.api.bodies import PICTURE_FIELD, Upload, body_type, is_json, parse_json, parse_pictures, read_body
from app.api.content_negotiation import JSON, Format, choose_format
from app.api.schemas import Options, PictureOptions, SampleOptions
from app.api.validation import from_json, from_query, read_latents, refuse_unknown
from app.errors import InvalidField, PictureError, UnreadablePicture, UnsupportedBody
from app.images.decode import read_picture
from app.images.encode import scaled_size
from app.images.worker_pool import ItemError, TookTooLong
from app.model.latents import Latents, new_seed
from app.state import service_of, stages_of

Pictures = NDArray[np.uint8]
Fields = dict[str, Any]
AnyOptions = TypeVar("AnyOptions", bound=Options)
Item = TypeVar("Item")
Result = TypeVar("Result")


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
        width, height = scaled_size(native.width, native.height, self.size)
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


async def json_body(call: Call, model: type[Options]) -> dict[str, Any]:
    """The JSON object in the body, with no fields but those of `model`."""
    if not is_json(body_type(call.request)):
        raise UnsupportedBody("send JSON with the content type application/json")
    body = parse_json(await call.body())
    refuse_unknown(model, body)
    return body


async def sample_body(call: Call) -> SampleOptions:
    body = await call.body()
    if not body:
        return SampleOptions()
    if not is_json(body_type(call.request)):
        raise UnsupportedBody("send JSON with the content type application/json, or an empty body")
    return from_json(SampleOptions, parse_json(body))


def read_body_latents(call: Call, body: dict[str, Any]) -> Latents:
    manifest = call.vae.manifest
    return read_latents(body, manifest.id, manifest.latent_dim, call.settings.max_items)


def uploaded_images(upload: Upload) -> list[bytes]:
    """The pictures of an upload that is to have nothing else."""
    if upload.fields:
        raise InvalidField([(name, "unknown field") for name in upload.fields])
    if not upload.pictures:
        raise InvalidField([(PICTURE_FIELD, "must be given at least once")])
    return upload.pictures


def form_values(upload: Upload) -> dict[str, str | list[str]]:
    """Form fields as PathOptions takes them: `lambdas` is a list, every other field has one value."""
    values: dict[str, str | list[str]] = {
        name: texts[0] if len(texts) == 1 else texts for name, texts in upload.fields.items()
    }
    if "lambdas" in values:
        values["lambdas"] = ",".join(upload.fields["lambdas"]).split(",")
    return values


async def decode_images(call: Call, files: list[bytes]) -> Pictures:
    """Decode files and fit them to the model's size: (N, H, W, 3) uint8."""
    size = call.vae.manifest.image_size
    read = partial(read_picture, width=size.width, height=size.height, max_pixels=call.settings.max_pixels)
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


def choose_seed(given: int | None) -> int:
    return new_seed() if given is None else given
