"""Batch: rows of several requests that run together, and the way of its outputs back to each request."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import InferenceFailed
from app.timings import Trace

Array = NDArray[Any]


@dataclass(slots=True, eq=False)
class QueuedRequest:
    """The rows that a client submitted together. Times are those of time.monotonic.

    Attributes:
        rows: (n, ...).
        future: gets the outputs of all rows, n each.
        submitted: when it was queued.
        taken: rows that have been put into batches so far.
        started: when the first of them were.
        ended: when the last of them had run.
        outputs: what has come of it so far, batch by batch.
        trace: the trace of the client's request, where it has one.
        runs: what stands there for the batches it took part in.
    """

    rows: Array
    future: asyncio.Future[tuple[Array, ...]]
    submitted: float
    taken: int = 0
    started: float = 0.0
    ended: float = 0.0
    outputs: list[tuple[Array, ...]] = field(default_factory=list)
    trace: Trace | None = None
    runs: list[object] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Rows that have not been put into a batch."""
        return len(self.rows) - self.taken

    def tell_trace(self, batcher: str) -> None:
        """Tell its trace how it waited and ran; its future is done, in whatever way."""
        if self.trace is None:
            return
        now = time.monotonic()
        error = asyncio.CancelledError() if self.future.cancelled() else self.future.exception()
        if not self.taken:
            self.trace.stage(f"{batcher} queue", self.submitted, now, error)
            return
        self.trace.stage(f"{batcher} queue", self.submitted, self.started, None)
        self.trace.stage(f"{batcher} inference", self.started, self.ended or now, error, self.runs)


@dataclass(slots=True)
class Part:
    """Rows start:stop of a request, which take part in a batch."""

    request: QueuedRequest
    start: int
    stop: int


Answer = tuple[QueuedRequest, tuple[Array, ...]]
"""A request of which all rows have run, and their outputs."""


@dataclass(slots=True)
class Batch:
    """Parts of requests, and how many rows they have together."""

    parts: list[Part] = field(default_factory=list)
    rows: int = 0

    @property
    def requests(self) -> list[QueuedRequest]:
        """The requests that take part, whole or with some of their rows."""
        return [part.request for part in self.parts]

    def take(self, request: QueuedRequest, room: int, now: float) -> None:
        """Take the next rows of a request, at most `room`."""
        start = request.taken
        request.taken = min(start + room, len(request.rows))
        if start == 0:
            request.started = now
        self.parts.append(Part(request, start, request.taken))
        self.rows += request.taken - start

    def join(self) -> Array:
        """The rows in one array; those of a lone request are not copied."""
        pieces = [part.request.rows[part.start : part.stop] for part in self.parts]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def split(self, outputs: tuple[Array, ...]) -> list[Answer]:
        """Hand the outputs of the run to the requests; gives the answers that are complete now.

        Raises:
            InferenceFailed: an output has not as many rows as went in.
        """
        if any(len(output) != self.rows for output in outputs):
            sizes = ", ".join(str(len(output)) for output in outputs)
            raise InferenceFailed(f"batch size mismatch: {self.rows} rows went in and {sizes} came out")
        ended = time.monotonic()
        answers = []
        begin = 0
        for part in self.parts:
            request, end = part.request, begin + part.stop - part.start
            request.outputs.append(tuple(output[begin:end] for output in outputs))
            begin = end
            if request.left == 0:
                request.ended = ended
                answers.append((request, _rejoin(request.outputs)))
        return answers

    def tell_traces(self, batcher: str, started: float, error: BaseException | None) -> None:
        """Tell the traces of its requests that it has run; a batch of untraced requests costs nothing."""
        traced = [request for request in self.requests if request.trace is not None]
        traces = [request.trace for request in traced if request.trace is not None]
        if traces:
            run = traces[0].run(f"{batcher} run", started, time.monotonic(), error, self.rows, traces)
            for request in traced:
                request.runs.append(run)


def _rejoin(outputs: list[tuple[Array, ...]]) -> tuple[Array, ...]:
    if len(outputs) == 1:
        return outputs[0]
    return tuple(np.concatenate(pieces) for pieces in zip(*outputs, strict=True))
