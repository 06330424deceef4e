"""Batcher: a bounded queue of rows with deadlines, and the thread that runs many requests' rows as batches.

While one batch runs the next gathers; only for rows that are known to be on their way does it wait, and
briefly.

A batcher knows neither images nor ONNX: rows lie along axis 0 of whatever arrays it is given.
"""

import asyncio
import logging
import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

from app.errors import InferenceFailed, NotReady, QueueFull, QueueTimeout, ServiceError
from app.inference.batch import Answer, Array, Batch, QueuedRequest
from app.timings import Timings

GATHERING_SECONDS = 0.01
"""How long rows wait at most for others that are expected any moment."""

SMOOTHING = 0.2
"""Weight of the newest batch in the running mean of seconds per row."""

logger = logging.getLogger(__name__)


class BatchObserver(Protocol):
    """What a batcher tells about its work; called on the event loop, once per batch and not per request."""

    def batch(self, batcher: str, rows: int, run_seconds: float, queued_rows: int) -> None:
        """A batch of `rows` has run; `queued_rows` is the length of the queue now."""

    def skipped(self, batcher: str, rows: int) -> None:
        """Rows left the queue without a run: their client has gone, or they waited too long."""


@dataclass(frozen=True, slots=True)
class Health:
    """Why a batcher or a model does not answer, in words fit to be shown, or None when it does."""

    reason: str | None

    @property
    def healthy(self) -> bool:
        """True when it answers, as far as its last batches tell."""
        return self.reason is None


class Batcher:
    """One worker thread that runs batches of rows, and the bounded queue before it.

    Requests are taken in the order they came. One that is larger than a batch is split and rejoined; each
    time it has filled a batch of its own it lets those behind it go first, so that small ones need not wait
    for all of it.

    Args:
        name: for logs and metrics.
        run: called on the worker thread with (n, ...) rows, 1 <= n <= max_batch_rows; gives arrays of n rows
            each, which it must not use again.
        max_batch_rows: most rows of one run.
        max_queue_rows: most rows waiting; a single request of more can never be accepted.
        queue_timeout: seconds a request may wait for its first rows to run.
        observer: is told of every batch.
        run_limit: seconds after which a run counts as hung: its requests and all waiting ones are answered,
            and new ones are refused until it returns.
        niceness: how far the worker stands back from other threads, 0 to 19; on Linux, where a thread has
            that for itself.
        stage: what the time of a run is called in the timings of a request.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Array], tuple[Array, ...]],
        *,
        max_batch_rows: int,
        max_queue_rows: int,
        queue_timeout: float,
        observer: BatchObserver,
        run_limit: float = 60.0,
        niceness: int = 0,
        stage: str = "inference",
    ) -> None:
        if max_batch_rows < 1 or max_queue_rows < 1:
            raise ValueError("max_batch_rows and max_queue_rows must be at least 1")
        self.name = name
        self._infer = run
        self._max_batch_rows = max_batch_rows
        self._max_queue_rows = max_queue_rows
        self._queue_timeout = queue_timeout
        self._observer = observer
        self._run_limit = run_limit
        self._niceness = niceness
        self._stage = stage
        self._patience = min(queue_timeout, run_limit)
        # The condition's lock guards what both threads change: the queue, the batch that runs and the flags.
        self._condition = threading.Condition(threading.Lock())
        self._waiting: deque[QueuedRequest] = deque()
        self._queued_rows = 0
        self._expected_rows = 0
        self._running: Batch | None = None
        self._run_started = 0.0
        self._seconds_per_row = 0.0
        self._closing = False
        self._hung = False
        self._death: str | None = None
        self._last_failure: str | None = None
        self._thread = threading.Thread(target=self._work, name=f"batcher-{name}", daemon=True)
        # Only the event loop touches these two.
        self._sweeper: asyncio.TimerHandle | None = None
        self._stopped = asyncio.Event()

    def start(self) -> None:
        """Start the worker; to be called on the event loop that will submit."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    @property
    def queued_rows(self) -> int:
        """Rows that wait for a batch now."""
        return self._queued_rows

    def health(self) -> Health:
        """Whether new rows would be answered, as far as the last batch tells."""
        return Health(self._complaint() or self._last_failure)

    def _complaint(self) -> str | None:
        """Why nothing can be accepted, if that is so."""
        if self._death is not None:
            return self._death
        if self._hung or self._running_too_long():
            return f"the {self.name} has been in one run for more than {self._run_limit:g} s"
        if self._closing:
            return f"the {self.name} is shutting down"
        return None if self._thread.is_alive() else f"the {self.name} has not been started"

    def check_room(self, rows: int = 1) -> None:
        """Raises what `submit` would raise at once for so many rows: NotReady or QueueFull."""
        with self._condition:
            self._refuse(rows)

    async def submit(self, rows: Array, timings: Timings | None = None) -> tuple[Array, ...]:
        """Run rows, in company of others where there are any.

        Args:
            rows: (n, ...), not to be changed before the answer; all requests have one row shape and dtype.
            timings: gets `queue`, the wait for the first batch, and the stage of the batcher, from there to
                the end; and the number of rows.

        Returns:
            the arrays that `run` gave, n rows each.

        Raises:
            QueueFull, QueueTimeout, NotReady, InferenceFailed.
            ValueError: there are no rows, or more than max_queue_rows.
        """
        if not 0 < len(rows) <= self._max_queue_rows:
            raise ValueError(f"a request must have 1 to {self._max_queue_rows} rows, not {len(rows)}")
        if timings is not None:
            timings.rows = max(timings.rows, len(rows))
        request = QueuedRequest(rows, asyncio.get_running_loop().create_future(), time.monotonic())
        request.trace = None if timings is None else timings.trace
        with self._condition:
            self._refuse(len(rows))
            self._waiting.append(request)
            self._queued_rows += len(rows)
            self._condition.notify()
        if self._sweeper is None:
            self._sweep_in(self._patience)
        try:
            results = await request.future
        except asyncio.CancelledError:
            with self._condition:
                skipped = self._remove([request])
            self._report_skipped(skipped)
            raise
        finally:
            request.tell_trace(self.name)
        if timings is not None:
            timings.add("queue", request.started - request.submitted)
            timings.add(self._stage, request.ended - request.started)
        return results

    @contextmanager
    def expecting(self, rows: int) -> Iterator[None]:
        """Tell that so many rows are being made, and will be submitted when this ends, if nothing goes wrong:
        rows that are here wait for them a little, as a larger batch costs less per row."""
        self._expected_rows += rows
        try:
            yield
        finally:
            self._expected_rows -= rows

    async def drain(self) -> None:
        """Refuse new requests, finish the accepted ones and stop the worker; returns early if a run hangs."""
        self._refuse_from_now_on()
        if self._thread.is_alive() and not self._hung:
            await self._stopped.wait()
        if not self._hung and self._thread.ident is not None:
            self._thread.join()
        self._stop_sweeping()

    def close(self) -> None:
        """Refuse new requests, answer the waiting ones with NotReady and end the worker after its batch."""
        self._refuse_from_now_on()
        with self._condition:
            waiting = list(self._waiting)
            skipped = self._remove(waiting)
        self._report_skipped(skipped)
        self._fail(waiting, lambda: NotReady("the service is shutting down"))

    def _refuse_from_now_on(self) -> None:
        with self._condition:
            self._closing = True
            self._condition.notify()

    def _refuse(self, rows: int) -> None:
        complaint = self._complaint()
        if complaint is not None:
            raise NotReady(complaint)
        if self._queued_rows + rows > self._max_queue_rows:
            wait = min(self._queued_rows * self._seconds_per_row, self._queue_timeout)
            raise QueueFull(
                f"{self._queued_rows} rows are waiting and {rows} more would exceed {self._max_queue_rows};"
                " try again later",
                retry_after=max(1, math.ceil(wait)),
            )

    def _remove(self, requests: Sequence[QueuedRequest]) -> int:
        """Take requests out of the queue, with the lock held; gives the number of rows that will not run."""
        before = self._queued_rows
        gone = set(requests)
        self._waiting = deque(request for request in self._waiting if request not in gone)
        self._queued_rows = sum(request.left for request in self._waiting)
        return before - self._queued_rows

    def _report_skipped(self, rows: int) -> None:
        if rows:
            self._observer.skipped(self.name, rows)

    def _sweep_in(self, seconds: float) -> None:
        """Set the one timer of all requests. Late requests and a hung run must be noticed while the worker is
        stuck, hence on the event loop."""
        self._sweeper = self._loop.call_later(max(seconds, 0.001), self._sweep)

    def _stop_sweeping(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def _sweep(self) -> None:
        """Answer what is due, and come again when the next thing can be due, as long as there is work."""
        now = time.monotonic()
        with self._condition:
            hung = self._hung = self._running_too_long()
            stuck = self._running.requests if hung and self._running is not None else []
            late = [request for request in self._waiting if hung or self._deadline(request) <= now]
            skipped = self._remove(late)
            next_time = self._next_time(now)
        self._report_skipped(skipped)
        if hung:
            logger.error("%s: a batch has been running for more than %g s", self.name, self._run_limit)
            self._fail(stuck, lambda: InferenceFailed("the model does not answer"))
            self._fail(late, lambda: NotReady("the model does not answer"))
            if self._closing:
                self._stopped.set()
        else:
            timeout = self._queue_timeout
            self._fail(
                late, lambda: QueueTimeout(f"the request waited in the queue for more than {timeout:g} s")
            )
        self._sweeper = None
        if next_time < math.inf:
            self._sweep_in(next_time - now)

    def _running_too_long(self) -> bool:
        return self._running is not None and time.monotonic() - self._run_started >= self._run_limit

    def _deadline(self, request: QueuedRequest) -> float:
        return math.inf if request.taken else request.submitted + self._queue_timeout

    def _next_time(self, now: float) -> float:
        """The earliest moment at which anything can be due, of what is here now or comes later."""
        if self._hung or not (self._running or self._waiting):
            return math.inf
        run_due = self._run_started + self._run_limit if self._running else math.inf
        return min((now + self._patience, run_due, *map(self._deadline, self._waiting)))

    def _work(self) -> None:
        """The worker thread."""
        if self._niceness and sys.platform == "linux":
            with suppress(OSError):  # a sandbox may forbid it
                thread = threading.get_native_id()
                own = os.getpriority(os.PRIO_PROCESS, thread)
                os.setpriority(os.PRIO_PROCESS, thread, own + self._niceness)
        try:
            while batch := self._take():
                self._run(batch)
        except BaseException:
            logger.critical("%s: the worker died", self.name, exc_info=True)
            self._die()
        finally:
            self._post(self._stopped.set)

    def _take(self) -> Batch | None:
        """Wait for rows and form the next batch; None means the end."""
        with self._condition:
            while not self._gathered():
                if self._closing:
                    return None
                self._condition.wait()
            now = time.monotonic()
            batch = Batch()
            while batch.rows < self._max_batch_rows and self._waiting:
                request = self._waiting.popleft()
                batch.take(request, self._max_batch_rows - batch.rows, now)
                if request.left:
                    filled_it_alone = len(batch.parts) == 1
                    (self._waiting.append if filled_it_alone else self._waiting.appendleft)(request)
            self._queued_rows -= batch.rows
            self._run_started = now
            self._running = batch
        return batch

    def _gathered(self) -> bool:
        """Whether there are rows to run, with the lock held. Where more are expected it waits for them until
        the batch is full, at most for GATHERING_SECONDS; rows may also be gone by then."""
        until = time.monotonic() + GATHERING_SECONDS
        while 0 < self._queued_rows < self._max_batch_rows and self._expected_rows and not self._closing:
            left = until - time.monotonic()
            if left <= 0:
                break
            self._condition.wait(left)
        return bool(self._waiting)

    def _run(self, batch: Batch) -> None:
        """Run one batch and send its results, or its failure, to the event loop in one call."""
        answers: list[Answer] = []
        failure = cause = None
        try:
            answers = batch.split(self._infer(batch.join()))
        except Exception as error:
            logger.exception("%s: a batch of %d rows failed", self.name, batch.rows)
            failure = str(error) if isinstance(error, ServiceError) else "the model failed on this batch"
            cause = error
        batch.tell_traces(self.name, self._run_started, cause)
        seconds = time.monotonic() - self._run_started
        with self._condition:
            self._running = None
            self._hung = False
            if failure is None:
                self._last_failure = None
                self._seconds_per_row += SMOOTHING * (seconds / batch.rows - self._seconds_per_row)
            else:
                self._last_failure = f"the last batch of the {self.name} failed"
                self._remove(batch.requests)
            queued_rows = self._queued_rows
        if failure is not None:
            self._post(self._fail, batch.requests, lambda: InferenceFailed(failure))
            return
        self._post(self._deliver, answers, batch.rows, seconds, queued_rows)

    def _deliver(
        self,
        answers: list[Answer],
        rows: int,
        run_seconds: float,
        queued_rows: int,
    ) -> None:
        for request, results in answers:
            if not request.future.done():
                request.future.set_result(results)
        self._observer.batch(self.name, rows, run_seconds, queued_rows)

    def _fail(self, requests: list[QueuedRequest], error: Callable[[], ServiceError]) -> None:
        for request in requests:
            if not request.future.done():
                request.future.set_exception(error())

    def _die(self) -> None:
        with self._condition:
            self._death = f"the worker of the {self.name} has died"
            lost = [*(self._running.requests if self._running is not None else ()), *self._waiting]
            self._running = None
            self._remove(lost)
        self._post(self._fail, lost, lambda: InferenceFailed("the model does not answer"))

    def _post(self, callback: Callable[..., None], *args: Any) -> None:
        """Have the event loop call something. Where it was closed, nobody waits any more: the worker ends."""
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            with self._condition:
                self._closing = True
                self._waiting.clear()
                self._queued_rows = 0
