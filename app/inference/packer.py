"""Packer: a process beside the service that reads images, encodes and refines them, writes codes and makes
the files that they are compared with, so that those who compress take one core at most, which stands back,
and never the event loop, the threads or the interpreter lock that others need."""

import atexit
import logging
import multiprocessing
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

import numpy as np

from app.errors import ImageError, InferenceFailed
from app.images.other_formats.compare import FORMATS, FormatName
from app.images.worker_pool import ItemError, TookTooLong
from app.inference.batch import Array
from app.inference.batcher import Batcher, BatchObserver
from app.inference.packer_process import Answer, Original, PackedImage, PackerSpec, serve
from app.timings import Timings

MAX_BUDGETS = 16
"""Most budgets of one request."""
PATIENCE = 10.0
"""Seconds that it is given to end by itself."""
LONGEST = 300.0
"""Seconds after which it is ended though it has not been busy; clients have been answered long before, by the
run_limit of the batcher. Where others want all cores it may well take a minute."""

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Request:
    """What is asked of each of its images, and what is wrong with the first that cannot be read: those after
    it are not worked on."""

    budgets: Sequence[int]
    others: Sequence[FormatName]
    failure: ItemError | None = None


@dataclass(frozen=True, eq=False)
class _Row:
    """An image of a request, at its place."""

    request: _Request
    index: int
    original: Original


class Packer:
    """The process behind its batcher, whose rows are images of requests.

    Attributes:
        encodes: whether it reads and encodes; else all that it is given has its latent.

    It is started when it is first needed, and again where it has died or was ended because it hung.
    """

    def __init__(
        self,
        spec: PackerSpec,
        is_calm: Callable[[], bool],
        *,
        max_queue_rows: int,
        queue_timeout: float,
        observer: BatchObserver,
    ) -> None:
        """Put a batcher before the process; for the limits see Batcher.

        Args:
            is_calm: whether nothing else of the service waits, which may be asked on any thread; the process
                stands back in another way then.
        """
        self.encodes = spec.encoder is not None
        self._spec = spec
        self._is_calm = is_calm
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
        originals: Sequence[Original],
        budgets: Sequence[int],
        timings: Timings | None = None,
        *,
        others: Sequence[FormatName] = (),
    ) -> list[PackedImage]:
        """The codes of images: of each, one for each of 1 to MAX_BUDGETS budgets.

        Args:
            others: the formats to compare with; they are answered in the order of FORMATS.
            timings: gets the wait as `queue` and the rest as `pack`.

        Raises:
            ItemError: the first image that cannot be read; its error is an ImageError, or TookTooLong.
            InferenceFailed: the process failed, hung or died meanwhile. Else what Batcher.submit raises.
        """
        request = _Request(budgets, [name for name in FORMATS if name in others])
        rows = (_Row(request, *each) for each in enumerate(originals))
        (packed,) = await self.batcher.submit(np.fromiter(rows, object, len(originals)), timings)
        if request.failure is not None:
            raise request.failure
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
        packed = np.empty(1, object)
        row: _Row = rows[0]
        if row.request.failure is None:
            answer = self._ask(row)
            if isinstance(answer, PackedImage):
                packed[0] = answer
            else:
                row.request.failure = ItemError(row.index, answer)
        return (packed,)

    def _ask(self, row: _Row) -> PackedImage | ImageError | TookTooLong:
        try:
            pipe = self._open_pipe()
            pipe.send(((row.original, row.request.budgets, row.request.others), self._is_calm()))
            if not pipe.poll(LONGEST):
                raise TimeoutError(f"no answer for {LONGEST:g} s")
            answer: Answer = pipe.recv()
        except (OSError, EOFError) as error:  # TimeoutError is one of the first
            if self._forget(is_ending=not isinstance(error, TimeoutError)) == -signal.SIGPROF:
                return TookTooLong(f"given up after {self._spec.decode_timeout:g} s")
            raise InferenceFailed("the process that writes codes has ended; try again") from error
        if isinstance(answer, str):
            logger.error("a code could not be written: %s", answer)
            raise InferenceFailed("the code could not be written")
        return answer

    def _open_pipe(self) -> Connection:
        if self._process is not None and not self._process.is_alive():
            self._forget()  # before it gets work that it would lose
        if self._pipe is None:
            # spawn: a fork of a process with threads may hold any of their locks.
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(
                target=serve, args=(theirs, self._spec), name="packer", daemon=True
            )
            self._process.start()
            theirs.close()
            # For a service that ends without closing: Python waits for its processes.
            atexit.register(self._pipe.close)
        return self._pipe

    def _forget(self, *, is_ending: bool = False) -> int | None:
        """Have it started again when it is needed; gives its exit code."""
        process, pipe = self._process, self._pipe
        self._process, self._pipe = None, None
        if process is None or pipe is None:
            return None
        atexit.unregister(pipe.close)
        pipe.close()
        if is_ending:
            process.join(PATIENCE)
        _end(process)
        logger.error(
            "the process that writes codes has ended (%s); it is started again when it is needed",
            process.exitcode,
        )
        return process.exitcode


def _end(process: SpawnProcess) -> None:
    process.kill()
    process.join()
