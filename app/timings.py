"""Timings: the seconds of one request by stage, which RequestLog sends as Server-Timing, logs and counts.

Where the request is traced, its Trace is told the same.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol


class Trace(Protocol):
    """What a traced request tells of itself, for spans. Times are those of time.monotonic."""

    @property
    def id(self) -> str:
        """The trace's id, 32 hexadecimal digits."""

    def stage(
        self,
        name: str,
        started: float,
        ended: float,
        error: BaseException | None,
        runs: Sequence[object] = (),
    ) -> None:
        """Something was done for this request, or failed; `runs` are those of `run` that it consisted of."""

    def run(
        self,
        name: str,
        started: float,
        ended: float,
        error: BaseException | None,
        rows: int,
        requests: Sequence["Trace"],
    ) -> object:
        """A batch of rows of `requests`, this one the first, was run, or failed; gives what stands for it in
        `stage`."""


class Timings:
    """Adds up seconds per stage (read, decode, queue, inference, encode), in the order first met.

    Attributes:
        rows: the most rows that the request had in one batcher.
        trace: the request's trace, where it has one.
    """

    __slots__ = ("rows", "seconds", "trace")

    def __init__(self, trace: Trace | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self.rows = 0
        self.trace = trace

    def add(self, stage: str, seconds: float) -> None:
        """Count `seconds` towards a stage; a stage may be met several times."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Count what is done within towards a stage; what fails is told to the trace alone."""
        started = time.monotonic()
        try:
            yield
        except BaseException as error:
            if self.trace is not None:
                self.trace.stage(stage, started, time.monotonic(), error)
            raise
        ended = time.monotonic()
        self.add(stage, ended - started)
        if self.trace is not None:
            self.trace.stage(stage, started, ended, None)

    def server_timing(self) -> str:
        """The value of a Server-Timing header (W3C Server Timing), durations in milliseconds."""
        return ", ".join(f"{stage};dur={seconds * 1000:.2f}" for stage, seconds in self.seconds.items())
