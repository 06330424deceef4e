"""The process that writes codes: from a file of an image, or from its latent, to codes and to what they are
compared with."""

import contextlib
import os
import signal
from collections.abc import Sequence
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
"""Seconds of the processor's time after which it counts as hung; 16 budgets take a tenth of that."""

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
    """Answer tasks until the other end of the pipe is closed, as it is when the service dies.

    A file whose reading takes too long ends the process by SIGPROF, a task that does by SIGVTALRM: what is
    stuck may be in the middle of anything. Both limits are of the processor's time, as a process that stands
    back may have to wait for long.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to all; the service ends it when it has drained
        signal.signal(number, signal.SIG_IGN)
    configure_pillow()
    worker = _Worker(spec)
    with contextlib.suppress(OSError):  # a sandbox may forbid it
        os.nice(NICENESS)
    with contextlib.suppress(EOFError, OSError):  # nobody is there any more
        while True:
            task = pipe.recv()
            try:
                answer: Answer = worker.pack(*task)
            except ImageError as error:
                answer = error
            except Exception as error:
                answer = f"{type(error).__name__}: {error}"
            pipe.send(answer)
    os._exit(0)  # there is nothing to tidy up, and nothing that may keep the process from ending


class _Worker:
    """What the process works with, on its one thread."""

    def __init__(self, spec: PackerSpec) -> None:
        self._spec = spec
        self._decoder = _session(spec.decoder)
        self._encoder = spec.encoder and _session(spec.encoder)
        self._refiner = spec.refiner and _session(spec.refiner)
        self._coder = Coder(
            CodeCodec.read(spec.tables, spec.tag), spec.post_filter and _session(spec.post_filter)
        )

    def pack(self, original: Original, budgets: Sequence[int], others: Sequence[FormatName]) -> PackedImage:
        """Raises ImageError where the file cannot be read."""
        signal.setitimer(signal.ITIMER_VIRTUAL, MOST_BUSY)
        image, size = self._read(original)
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
        signal.setitimer(signal.ITIMER_PROF, self._spec.decode_timeout)
        try:
            return read_sized_image(original.picture, width, height, self._spec.max_pixels)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

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


def _session(graph: Graph) -> Session:
    (session,) = open_sessions(dict([graph]), SessionSpec("cpu", max_batch_rows=1))
    return session
