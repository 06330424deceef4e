"""Packer: a process beside the service that refines latents, writes codes and makes the files that they are
compared with, so that those who compress take one core at most, which stands back, and never the event loop
or the interpreter lock that others need."""

import atexit
import contextlib
import logging
import multiprocessing
import os
import signal
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

import numpy as np

from app.codes.codec import CodeCodec
from app.codes.tables import Floats
from app.errors import InferenceFailed
from app.images.arrays import ImageArray
from app.images.other_formats.compare import FORMATS, FormatName, OtherFormat, in_other_formats
from app.inference.batch import Array
from app.inference.batcher import Batcher, BatchObserver
from app.inference.coder import Coder, PackedCode
from app.inference.refiner import run_refiner
from app.inference.session import GraphSpec, Session, SessionSpec, open_sessions
from app.model.latents import Latents
from app.timings import Timings

MAX_BUDGETS = 16
"""Most budgets of one request."""
NICENESS = 10
"""How far the process stands back: of a core that others want too it gets a tenth, as Linux has it."""
PATIENCE = 10.0
"""Seconds that it is given to end by itself."""
LONGEST = 30.0
"""Seconds after which it counts as hung; its start, 16 budgets and a busy machine take a tenth of that."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PackerSpec:
    """What the process opens.

    Attributes:
        tag: the first byte of the model's codes.
        tables: the file of the codec.
        decoder: the decoder that is served, for a CPU.
        post_filter: None where the model has none.
        refiner: None where it need not refine.
    """

    tag: int
    tables: bytes
    decoder: tuple[GraphSpec, bytes]
    post_filter: tuple[GraphSpec, bytes] | None
    refiner: tuple[GraphSpec, bytes] | None


@dataclass(frozen=True, eq=False)
class PackedImage:
    """An image under each of several budgets: as codes, and in the other formats that were asked for."""

    codes: list[PackedCode]
    others: list[OtherFormat]


class Packer:
    """The process behind its batcher, whose rows are an image, its latent, its size, budgets of bytes,
    whether to refine, and other formats.

    Attributes:
        refines: whether it can.

    It is started when it is first needed, and again where it has died or was ended because it hung.
    """

    def __init__(
        self,
        spec: PackerSpec,
        image_shape: tuple[int, int, int],
        latent_dim: int,
        *,
        max_queue_rows: int,
        queue_timeout: float,
        observer: BatchObserver,
    ) -> None:
        """Put a batcher before the process; for the limits see Batcher."""
        self.refines = spec.refiner is not None
        self._spec = spec
        self._row = np.dtype(
            [
                ("image", np.uint8, image_shape),
                ("latent", np.float32, (latent_dim,)),
                ("size", np.int64, (2,)),
                ("budgets", np.int64, (MAX_BUDGETS,)),
                ("refine", np.bool_),
                ("others", np.bool_, (len(FORMATS),)),
            ]
        )
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self.batcher = Batcher(
            "packer",
            self._run,
            max_batch_rows=1,  # answers that come in bunches bring the next requests in bunches
            max_queue_rows=max_queue_rows,
            queue_timeout=queue_timeout,
            observer=observer,
            stage="pack",
        )

    async def pack(
        self,
        images: ImageArray,
        latents: Latents,
        sizes: Sequence[tuple[int, int]],
        budgets: Sequence[int],
        timings: Timings | None = None,
        *,
        refine: bool = False,
        others: Collection[FormatName] = (),
    ) -> list[PackedImage]:
        """The codes of images (N, height, width, 3) uint8: of each, one for each of 1 to MAX_BUDGETS budgets.

        Args:
            latents: (N, L) float32.
            sizes: width and height of each original.
            refine: bring the latents nearer to the images before; only where it `refines`.
            others: the formats to compare with; they are answered in the order of FORMATS.
            timings: gets the wait as `queue` and the rest as `pack`.

        Raises:
            InferenceFailed: the process failed, hung or died meanwhile. Else what Batcher.submit raises.
        """
        rows = np.zeros(len(images), self._row)
        rows["image"], rows["latent"], rows["size"] = images, latents, sizes
        rows["budgets"][:, : len(budgets)] = budgets
        rows["refine"] = refine
        rows["others"] = [name in others for name in FORMATS]
        (packed,) = await self.batcher.submit(rows, timings)
        found: list[PackedImage] = packed.tolist()
        return found

    def close(self) -> None:
        """End the process; to be called when the batcher has been closed."""
        process, pipe = self._process, self._pipe
        if process is None or pipe is None:
            return
        self._process, self._pipe = None, None
        atexit.unregister(pipe.close)
        pipe.close()  # which it sees as the end
        process.join(PATIENCE)
        _end(process)

    def _run(self, rows: Array) -> tuple[Array, ...]:
        """One image, on the batcher's thread."""
        (row,) = rows
        try:
            pipe = self._open_pipe()
            pipe.send(row)
            if not pipe.poll(LONGEST):
                raise TimeoutError(f"no answer for {LONGEST:g} s")
            answer: PackedImage | str = pipe.recv()
        except (OSError, EOFError) as error:  # TimeoutError is one of the first
            self._forget()
            raise InferenceFailed("the process that writes codes has ended; try again") from error
        if isinstance(answer, str):
            logger.error("a code could not be written: %s", answer)
            raise InferenceFailed("the code could not be written")
        packed = np.empty(1, object)
        packed[0] = answer
        return (packed,)

    def _open_pipe(self) -> Connection:
        if self._process is not None and not self._process.is_alive():
            self._forget()  # before it gets work that it would lose
        if self._pipe is None:
            # spawn: a fork of a process with threads may hold any of their locks.
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(
                target=_serve, args=(theirs, self._spec), name="packer", daemon=True
            )
            self._process.start()
            theirs.close()
            # For a service that ends without closing: Python waits for its processes.
            atexit.register(self._pipe.close)
        return self._pipe

    def _forget(self) -> None:
        logger.error("the process that writes codes has ended; it is started again when it is needed")
        process, pipe = self._process, self._pipe
        self._process, self._pipe = None, None
        if process is not None and pipe is not None:
            atexit.unregister(pipe.close)
            pipe.close()
            _end(process)


def _end(process: SpawnProcess) -> None:
    process.kill()
    process.join()


def _serve(pipe: Connection, spec: PackerSpec) -> None:
    """The process: answers until the other end of the pipe is closed, as it is when the service dies."""
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to all; the service ends it when it has drained
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    worker = _Worker(spec)
    with contextlib.suppress(EOFError, OSError):  # nobody is there any more
        while True:
            row = pipe.recv()
            try:
                answer: PackedImage | str = worker.pack(row)
            except Exception as error:
                answer = f"{type(error).__name__}: {error}"
            pipe.send(answer)
    os._exit(0)  # there is nothing to tidy up, and nothing that may keep the process from ending


class _Worker:
    """What the process works with, on its one thread."""

    def __init__(self, spec: PackerSpec) -> None:
        self._decoder = _session(spec.decoder)
        post_filter = spec.post_filter and _session(spec.post_filter)
        self._refiner = spec.refiner and _session(spec.refiner)
        self._coder = Coder(CodeCodec.read(spec.tables, spec.tag), post_filter)

    def pack(self, row: Any) -> PackedImage:
        """The codes of a row of the packer, and what they are compared with."""
        image, latent = row["image"], row["latent"]
        width, height = row["size"].tolist()
        budgets = [budget for budget in row["budgets"].tolist() if budget]
        if row["refine"] and self._refiner is not None:
            (latent,) = run_refiner(self._refiner, image[None], latent[None])
        codes = self._coder.pack(image, latent, (width, height), budgets, self._decode)
        names = [name for name, wanted in zip(FORMATS, row["others"], strict=True) if wanted]
        return PackedImage(codes, in_other_formats(image, codes[0].box, budgets, names))

    def _decode(self, latent: Floats) -> ImageArray:
        (images,) = self._decoder.run(latent[None])
        image: ImageArray = images[0]
        return image


def _session(graph: tuple[GraphSpec, bytes]) -> Session:
    (session,) = open_sessions(dict([graph]), SessionSpec("cpu", max_batch_rows=1))
    return session
