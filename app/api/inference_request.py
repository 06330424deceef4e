"""Inference requests: what one is served with, the format it wants, its body, and its decoded images."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Literal, TypeVar

import numpy as np
from starlette.requests import Request

from app.api.bodies import IMAGE_FIELD, Upload, body_type, is_json, parse_images, read_body
from app.api.content_encoding import is_gzip
from app.api.content_negotiation import REPRESENTATIONS, Format, choose_format
from app.api.validation import refuse_fields
from app.codes import wire
from app.errors import (
    BodyTooLarge,
    DamagedCode,
    ImageError,
    InvalidField,
    QueueFull,
    UnreadableImage,
    WrongModel,
)
from app.images.arrays import ImageArray
from app.images.decode import read_own_shape, read_sized_image
from app.images.encode import scaled_size
from app.images.worker_pool import ItemError, TookTooLong
from app.inference.codes import CodeReader
from app.inference.decoder import Decoder, Graphs
from app.inference.older_models import OlderModel
from app.inference.session import CPU
from app.state import state_of, timings_of

APART: tuple[Format, ...] = ("gif", "json", "npy")
"""Formats in which several images are no grid."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class InferenceRequest(Request):
    """A request for the model.

    Attributes:
        settings, vae, pool: what it is served with.
        codes: what reads and writes codes; None where the model has none.
        decoder, reader: what draws the answer, and reads its codes: of the served model, unless the codes are
            of an older one; see `take_code`.
        manifest, graphs: of the model that draws the answer.
        timings: where its seconds are recorded.
        format: how it is to be answered.
        format_named_in: the place in the request that names it, `path` or `query.format`; None where Accept
            has decided.
        query_names: what its query may hold.
    """

    def __init__(
        self,
        request: Request,
        offered: Sequence[Format],
        of_path: Format | None = None,
        query_names: Sequence[str] = (),
    ) -> None:
        """Take over a request that has not been read from.

        Args:
            offered: the formats of the endpoint, the first where the client has no preference.
            of_path: the one that the suffix of its path names.
            query_names: of the parameters that the endpoint knows.

        Raises:
            NotReady, InvalidField, NotAcceptable.
        """
        super().__init__(request.scope, request.receive)
        self._app_state = state_of(request)
        self._unpacked = 0
        self._offered = offered
        self.query_names = query_names
        self.settings = self._app_state.settings
        self.vae, self.pool = self._app_state.parts()
        self.codes = self._app_state.codes
        self.decoder: Decoder = self.vae
        self.reader: CodeReader | None = self.codes
        self.manifest, self.graphs = self.vae.manifest, self.vae.graphs
        self._older: OlderModel | None = None
        self._borrowed = False
        self.timings = timings_of(request)
        choice = choose_format(request, offered, of_path)
        self.format, self.format_named_in = choice.format, choice.named_in

    @property
    def has_json(self) -> bool:
        """Whether its body is JSON, by its content type."""
        return is_json(body_type(self))

    @property
    def has_npy(self) -> bool:
        """Whether its body is an npy file, by its content type."""
        return body_type(self) == REPRESENTATIONS["npy"].media_type

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

    @property
    def reads_codes(self) -> bool:
        """Whether codes of any model are read here."""
        return bool(self._app_state.readable())

    def take_code(self, place: str, text: str) -> None:
        """Answer by the model that a code is of, which is not opened before `open_model`.

        Raises:
            DamagedCode, WrongModel: with the place of the code. InvalidField: no codes are read here.
        """
        if not self.reads_codes:
            raise InvalidField([(place, f"must be left out: {self.vae.manifest.id} has no codes")])
        try:
            self._older = self._app_state.older_model(wire.from_text(text))
        except (DamagedCode, WrongModel) as error:
            raise type(error)(f"{place}: {error}") from error
        if self._older is not None:
            self.manifest, self.graphs = self._older.manifest, Graphs(CPU)

    async def open_model(self) -> None:
        """Have `decoder` and `reader` be those of the model that was taken."""
        older = self._app_state.older
        if self._older is not None and older is not None and not self._borrowed:
            with self.timings.measure("open"):
                model = await older.borrow(self._older)
            self._borrowed = True
            self.decoder, self.reader = model.decoder, model.reader

    def take_served(self) -> None:
        """Answer by the served model, whatever was taken before."""
        self.decoder, self.reader = self.vae, self.codes
        self.manifest, self.graphs = self.vae.manifest, self.vae.graphs

    def count_codes(self, way: Literal["written", "read"], lengths: Iterable[int]) -> None:
        """Count codes of so many bytes, of the model of `manifest`, for the metrics."""
        self._app_state.metrics.codes(way, self.manifest.id, lengths)

    def release(self) -> None:
        """Let go of the model and of what is counted for its body; to be called when it has been answered."""
        if self._borrowed and self._older is not None and self._app_state.older is not None:
            self._app_state.older.give_back(self._older)
            self._borrowed = False
        self._app_state.unpacked_bytes -= self._unpacked
        self._unpacked = 0

    async def upload(self) -> Upload:
        """The body as image files and the fields beside them."""
        self.pool.check_room()  # rather than receive a body only to refuse it
        content_type = self.headers.get("content-type", "")
        return parse_images(await self.body(), content_type, self.settings.max_items)

    async def image_files(self) -> list[bytes]:
        """The image files of a body that is to hold nothing else."""
        upload = await self.upload()
        refuse_fields(list(upload.fields), (IMAGE_FIELD,), self.query_names)
        if not upload.images:
            raise InvalidField([(IMAGE_FIELD, "must be given at least once")])
        return upload.images

    async def decode(self, files: Sequence[bytes]) -> ImageArray:
        """Decode files and fit them to the model's size: (N, height, width, 3) uint8."""
        with self.vae.expecting(len(files)):
            return (await self.decode_sized(files))[0]

    async def decode_sized(self, files: Sequence[bytes]) -> tuple[ImageArray, list[tuple[int, int]]]:
        """The same, which nothing waits for, and of each the width and height of what is no border."""
        size = self.vae.manifest.image_size
        read = partial(
            read_sized_image, width=size.width, height=size.height, max_pixels=self.settings.max_pixels
        )
        read_images = await self._read(read, files)
        images = [image for image, _ in read_images]
        sizes = [size for _, size in read_images]
        return (images[0][np.newaxis] if len(images) == 1 else np.stack(images)), sizes

    async def decode_own_shape(self, file: bytes, longest: int) -> ImageArray:
        """Decode a file in its own shape, no side longer than asked for: (height, width, 3) uint8."""
        read = partial(read_own_shape, longest=longest, max_pixels=self.settings.max_pixels)
        (image,) = await self._read(read, [file])
        return image

    async def _read(self, read: Callable[[bytes], Result], files: Sequence[bytes]) -> list[Result]:
        """Decode files beside the event loop."""
        with self.naming_images(len(files)):
            return await self.in_pool("decode", read, files)

    @contextmanager
    def naming_images(self, count: int) -> Iterator[None]:
        """What is wrong with one of so many images is told with its place.

        Raises:
            ImageError.
        """
        try:
            yield
        except ItemError as failure:
            place = f"image {failure.index + 1} of {count}"
            if isinstance(failure.error, ImageError):
                raise type(failure.error)(f"{place}: {failure.error}") from failure
            if isinstance(failure.error, TookTooLong):
                seconds = self.settings.decode_timeout
                raise UnreadableImage(f"{place}: it takes more than {seconds:g} s to decode") from failure
            raise

    async def in_pool(
        self, stage: str, work: Callable[[Item], Result], items: Sequence[Item], *, here: bool = False
    ) -> list[Result]:
        """Apply `work` to each item beside the event loop, or `here` on it; its time counts for a stage."""
        with self.timings.measure(stage):
            return [work(item) for item in items] if here else await self.pool.map(work, items)

    def restrict(self, formats: Sequence[Format], message: str) -> None:
        """Answer in one of `formats`; where the client left the choice, another one that it accepts is taken.

        Raises:
            InvalidField: it named another one; `message` says why that cannot be. NotAcceptable.
        """
        if self.format not in formats:
            if self.format_named_in is not None:
                raise InvalidField([(self.format_named_in, message)])
            self.format = choose_format(self, formats).format
        self._offered = formats

    def check_output(
        self,
        images: int,
        size: int | None,
        columns: int | None = None,
        *,
        animated: bool = False,
        of: tuple[int, int] | None = None,
    ) -> None:
        """Refuse, before any work, an answer of too many pixels, or of sides that its format cannot have;
        where the client left the choice, another format that it accepts is taken.

        Args:
            images: how many there will be.
            size: pixels of the longer edge of each; None leaves them as the model makes them.
            columns: of the grid that they make, as `grid` takes it.
            animated: they are frames, and make no grid.
            of: width and height of each, where they are not of the model's size.

        Raises:
            InvalidField, NotAcceptable.
        """
        native = self.manifest.image_size
        width, height = scaled_size(*(of or (native.width, native.height)), size)
        limit = self.settings.max_output_pixels
        if images * width * height > limit:
            message = (
                f"must be smaller: {images} pictures of {width} x {height} have more than {limit} pixels"
            )
            raise InvalidField([("query.size", message)])
        if animated:
            return  # a frame is within what every format holds
        columns = min(images, columns or math.ceil(math.sqrt(images)))
        sheet = max(columns * width, math.ceil(images / columns) * height)
        sides = dict.fromkeys(APART, max(width, height))
        fitting = [name for name in self._offered if sides.get(name, sheet) <= REPRESENTATIONS[name].max_side]
        most = REPRESENTATIONS[self.format].max_side
        self.restrict(
            fitting,
            f"must be another format: {self.format} holds {most} pixels a side at most, "
            f"and the answer has {sheet}",
        )
