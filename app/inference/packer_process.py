"""The process that writes codes: from a file of an image, or from its latent, to codes and to what they are
compared with."""

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection

from app.codes.codec import CodeCodec
from app.codes.tables import Floats
from app.errors import ImageError
from app.images.arrays import ImageArray
from app.images.decode import configure_pillow, read_sized_image
from app.images.other_formats.compare import FormatName, OtherFormat, in_other_formats
from app.inference.coder import Coder, PackedCode
from app.inference.decoder import check_finite
from app.inference.refiner import run_refiner
from app.inference.session import GraphSpec, Session, SessionSpec, open_sessions

NICENESS = 19
"""How far the process stands back when it has started: of a core that others want too Linux gives it a
hundredth, where 10 would be a tenth, and a slice of that is 4 ms which a request for something else waits."""
MOST_BUSY = 30.0
"""Seconds of the processor's time after which it counts as hung, but for the reading of a file, which has a
limit of its own; 16 budgets take a tenth of that."""

Graph = tuple[GraphSpec, bytes]
"""A graph and its ONNX file."""


@dataclass(frozen=True)
class PackerSpec:
    """What the process opens.

    Attributes:
        tag: the first byte of the model's codes.
        tables: the file of the codec.
        decoder: the decoder that is served, for a CPU.
        post_filter: None where the model has none.
        encoder: the encoder that is served, for a CPU; None where files are read and encoded elsewhere.
        refiner: None where it need not refine.
        max_pixels: of a file, as read_image has it.
        decode_timeout: seconds of the processor's time that the reading of a file may take.
    """

    tag: int
    tables: bytes
    decoder: Graph
    post_filter: Graph | None
    encoder: Graph | None
    refiner: Graph | None
    max_pixels: int
    decode_timeout: float


@dataclass(frozen=True, eq=False)
class Original:
    """What is to be coded.

    Attributes:
        picture: a file, or (height, width, 3) uint8 of the model's size.
        size: width and height of what is no border; of a file that is found.
        latent: (L,) float32; None where it is to be encoded, which needs an encoder.
        refine: whether an encoded latent is brought nearer to the image, where that is possible.
    """

    picture: bytes | ImageArray
    size: tuple[int, int] = (0, 0)
    latent: Floats | None = None
    refine: bool = False


@dataclass(frozen=True, eq=False)
class PackedImage:
    """An image under each of several budgets: as codes, and in the other formats that were asked for.

    Attributes:
        encoded: (L,) float32, what the encoder says of it; None where it had a latent.
    """

    codes: list[PackedCode]
    others: list[OtherFormat]
    encoded: Floats | None = None


Task = tuple[Original, Sequence[int], Sequence[FormatName]]
"""An image, budgets in bytes, and the formats to compare with."""
Answer = PackedImage | ImageError | str
"""What has become of a task: an error of its file, or one that is none of the client's business, in words."""


def serve(pipe: Connection, spec: PackerSpec) -> None:
    """Answer tasks, each with whether it is a calm time, until the other end of the pipe is closed, as it is
    when the service dies.

    A file whose reading takes too long ends the process by SIGPROF, what follows by SIGVTALRM: what is stuck
    may be in the middle of anything. Both limits are of the processor's time, as a process that stands
    back may have to wait for long.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to all; the service ends it when it has drained
        signal.signal(number, signal.SIG_IGN)
    configure_pillow()
    worker = _Worker(spec)
    with contextlib.suppress(OSError):  # a sandbox may forbid it
        os.nice(NICENESS)
    idle = ThreadPoolExecutor(1, "idle", _become_idle)
    with contextlib.suppress(EOFError, OSError):  # nobody is there any more
        while True:
            task, is_calm = pipe.recv()
            pipe.send(idle.submit(worker.answer, task).result() if is_calm else worker.answer(task))
    os._exit(0)  # there is nothing to tidy up, and nothing that may keep the process from ending


def _become_idle() -> None:
    """Have what this thread does be no reason for others to wait, or to be woken on another core.

    Linux takes a core that does such work for a free one, and one of mere niceness for a busy one: beside it
    the threads of a request share what is left, which the slowest hundredth notices. With all cores busy that
    is the wrong way round, as it keeps work of others from being moved there, and there is no way back for a
    thread without privileges: hence a thread of its own, for calm times alone.
    """
    with contextlib.suppress(AttributeError, OSError):  # it is Linux's own
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


class _Worker:
    """What the process works with, on one thread at a time."""

    def __init__(self, spec: PackerSpec) -> None:
        self._spec = spec
        self._decoder = _session(spec.decoder)
        self._encoder = spec.encoder and _session(spec.encoder)
        self._refiner = spec.refiner and _session(spec.refiner)
        self._coder = Coder(
            CodeCodec.read(spec.tables, spec.tag), spec.post_filter and _session(spec.post_filter)
        )

    def answer(self, task: Task) -> Answer:
        """What becomes of a task."""
        try:
            return self._pack(*task)
        except ImageError as error:
            return error
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    def _pack(self, original: Original, budgets: Sequence[int], others: Sequence[FormatName]) -> PackedImage:
        with _at_most(signal.ITIMER_PROF, self._spec.decode_timeout):
            image, size = self._read(original)
        with _at_most(signal.ITIMER_VIRTUAL, MOST_BUSY):
            return self._pack_image(image, size, original, budgets, others)

    def _pack_image(
        self,
        image: ImageArray,
        size: tuple[int, int],
        original: Original,
        budgets: Sequence[int],
        others: Sequence[FormatName],
    ) -> PackedImage:
        latent, encoded = original.latent, None
        if latent is None:
            latent = encoded = self._encode(image)
            if original.refine and self._refiner is not None:
                (latent,) = run_refiner(self._refiner, image[None], latent[None])
        codes = self._coder.pack(image, latent, size, budgets, self._decode)
        return PackedImage(codes, in_other_formats(image, codes[0].box, budgets, others), encoded)

    def _read(self, original: Original) -> tuple[ImageArray, tuple[int, int]]:
        if not isinstance(original.picture, bytes):
            return original.picture, original.size
        (pictures,) = self._decoder.graph.outputs
        height, width, _ = pictures.row_shape
        return read_sized_image(original.picture, width, height, self._spec.max_pixels)

    def _encode(self, image: ImageArray) -> Floats:
        assert self._encoder is not None
        mean, _ = self._encoder.run(image[None])
        check_finite("the encoder gave means", mean)
        latent: Floats = mean[0]
        return latent

    def _decode(self, latent: Floats) -> ImageArray:
        (images,) = self._decoder.run(latent[None])
        image: ImageArray = images[0]
        return image


@contextlib.contextmanager
def _at_most(timer: int, seconds: float) -> Iterator[None]:
    """End the process, by the signal of a timer, where what is done here takes longer."""
    signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        signal.setitimer(timer, 0)


def _session(graph: Graph) -> Session:
    (session,) = open_sessions(dict([graph]), SessionSpec("cpu", max_batch_rows=1))
    return session
