"""Inference requests: what one is served with, the format it wants, its body, and its decoded images."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
from starlette.requests import Request

from app.api.bodies import IMAGE_FIELD, Upload, body_type, is_json, parse_images, read_body
from app.api.content_encoding import is_gzip
from app.api.content_negotiation import MAX_SIDES, Format, choose_format, named_format
from app.api.json_body import parse_json
from app.api.schemas import Options
from app.api.validation import read_latents, refuse_fields, refuse_unknown
from app.errors import BodyTooLarge, ImageError, InvalidField, QueueFull, UnreadableImage, UnsupportedBody
from app.images.arrays import ImageArray
from app.images.decode import read_image
from app.images.encode import scaled_size
from app.images.worker_pool import ItemError, TookTooLong
from app.model.latents import Latents
from app.state import state_of, timings_of

Item = TypeVar("Item")
Result = TypeVar("Result")


class InferenceRequest(Request):
    """A request for the model.

    Attributes:
        settings, vae, pool: what it is served with.
        timings: where its seconds are recorded.
        format: how it is to be answered.
    """

    def __init__(self, request: Request, offered: Sequence[Format]) -> None:
        """Take over a request that has not been read from.

        Args:
            offered: the formats of the endpoint, the first where the client has no preference.

        Raises:
            NotReady, InvalidField, NotAcceptable.
        """
        super().__init__(request.scope, request.receive)
        self._app_state = state_of(request)
        self._unpacked = 0
        self._offered = offered
        self.settings = self._app_state.settings
        self.vae, self.pool = self._app_state.parts()
        self.timings = timings_of(request)
        self.format = choose_format(request, offered)

    @property
    def has_json(self) -> bool:
        """Whether its body is JSON, by its content type."""
        return is_json(body_type(self))

    async def body(self) -> bytes:
        """The whole body, received within the time that is allowed, and unpacked where it is gzip."""
        count_unpacked = self._count_unpacked if is_gzip(self) else None
        with self.timings.measure("read"):
            return await read_body(self, self.settings.body_timeout, count_unpacked)

    def _count_unpacked(self, size: int) -> None:
        """What bodies unpack to is bounded as their bytes are: of each request, and of all together."""
        self._unpacked += size
        self._app_state.unpacked_bytes += size
        limit = self.settings.max_body_bytes
        if self._unpacked > limit:
            raise BodyTooLarge(f"the body unpacks to more than {limit} bytes, the most that is allowed")
        if self._app_state.unpacked_bytes > self.settings.max_held_bytes:
            raise QueueFull("too many request bodies are being unpacked at once; try again later")

    def release(self) -> None:
        """Let go of what is counted for its body; to be called when it has been answered."""
        self._app_state.unpacked_bytes -= self._unpacked
        self._unpacked = 0

    async def json_body(self, model: type[Options]) -> dict[str, Any]:
        """The JSON object in the body, with no fields but those of `model`."""
        if not self.has_json:
            raise UnsupportedBody("send JSON with the content type application/json")
        body = parse_json(await self.body())
        refuse_unknown(model, body)
        return body

    def latents_in(self, body: dict[str, Any]) -> Latents:
        """The latents of a JSON body: (N, latent_dim) float32, N at most `max_items`."""
        manifest = self.vae.manifest
        return read_latents(body, manifest.id, manifest.latent_dim, self.settings.max_items)

    async def upload(self) -> Upload:
        """The body as image files and the fields beside them."""
        self.pool.check_room()  # rather than receive a body only to refuse it
        content_type = self.headers.get("content-type", "")
        return parse_images(await self.body(), content_type, self.settings.max_items)

    async def image_files(self) -> list[bytes]:
        """The image files of a body that is to hold nothing else."""
        upload = await self.upload()
        refuse_fields(list(upload.fields), (IMAGE_FIELD,))
        if not upload.images:
            raise InvalidField([(IMAGE_FIELD, "must be given at least once")])
        return upload.images

    async def decode(self, files: Sequence[bytes]) -> ImageArray:
        """Decode files and fit them to the model's size: (N, height, width, 3) uint8."""
        size = self.vae.manifest.image_size
        read = partial(read_image, width=size.width, height=size.height, max_pixels=self.settings.max_pixels)
        try:
            with self.vae.expecting(len(files)):
                images = await self.in_pool("decode", read, files)
        except ItemError as failure:
            place = f"image {failure.index + 1} of {len(files)}"
            if isinstance(failure.error, ImageError):
                raise type(failure.error)(f"{place}: {failure.error}") from failure
            if isinstance(failure.error, TookTooLong):
                seconds = self.settings.decode_timeout
                raise UnreadableImage(f"{place}: it takes more than {seconds:g} s to decode") from failure
            raise
        return images[0][np.newaxis] if len(images) == 1 else np.stack(images)

    async def in_pool(
        self, stage: str, work: Callable[[Item], Result], items: Sequence[Item], *, here: bool = False
    ) -> list[Result]:
        """Apply `work` to each item beside the event loop, or `here` on it; its time counts for a stage."""
        with self.timings.measure(stage):
            return [work(item) for item in items] if here else await self.pool.map(work, items)

    def check_output(self, images: int, size: int | None, columns: int | None = None) -> None:
        """Refuse, before any work, an answer of too many pixels, or of sides that its format cannot have;
        where the client left the choice, another format that it accepts is taken.

        Args:
            images: how many there will be.
            size: pixels of the longer edge of each; None leaves them as the model makes them.
            columns: of the grid that they make, as `grid` takes it.

        Raises:
            InvalidField, NotAcceptable.
        """
        native = self.vae.manifest.image_size
        width, height = scaled_size(native.width, native.height, size)
        limit = self.settings.max_output_pixels
        if images * width * height > limit:
            message = (
                f"must be smaller: {images} pictures of {width} x {height} have more than {limit} pixels"
            )
            raise InvalidField([("query.size", message)])
        columns = min(images, columns or math.ceil(math.sqrt(images)))
        sheet = max(columns * width, math.ceil(images / columns) * height)
        if sheet <= MAX_SIDES[self.format]:
            return
        sides = {"gif": max(width, height), "json": max(width, height)}
        fitting = [name for name in self._offered if sides.get(name, sheet) <= MAX_SIDES[name]]
        if self.format in fitting:
            return
        if named_format(self) is not None:
            message = (
                f"must be another one: {self.format} holds {MAX_SIDES[self.format]} pixels a side at most, "
                f"and the answer has {sheet}"
            )
            raise InvalidField([("query.format", message)])
        self.format = choose_format(self, fitting)
