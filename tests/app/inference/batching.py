"""What the tests of a batcher share: a started batcher with a model whose runs are up to the test."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from app.inference.batch import Array
from app.inference.batcher import Batcher

LONG = 10.0
"""Seconds that no test comes near unless it hangs."""


class Model:
    """Doubles its rows and records them. While held, a run waits inside; a row of -1 makes it fail."""

    def __init__(self, max_batch_rows: int) -> None:
        self.max_batch_rows = max_batch_rows
        self.batches: list[Array] = []
        self.entered = threading.Semaphore(0)
        self.free = threading.Event()
        self.free.set()

    def run(self, rows: Array) -> tuple[Array, ...]:
        assert 0 < len(rows) <= self.max_batch_rows
        self.batches.append(rows)
        self.entered.release()
        assert self.free.wait(LONG)
        if (rows == -1).any():
            raise RuntimeError("secret detail of the runtime")
        return rows * 2, rows[:, 0].astype(np.float64)

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.batches]

    async def running(self) -> None:
        """Return when the next run has begun."""
        assert await asyncio.to_thread(self.entered.acquire, timeout=LONG)


class Observer:
    def __init__(self) -> None:
        self.batches: list[tuple[str, int, int]] = []
        self.run_seconds: list[float] = []
        self.skipped_rows = 0

    def batch(self, batcher: str, rows: int, run_seconds: float, queued_rows: int) -> None:
        self.batches.append((batcher, rows, queued_rows))
        self.run_seconds.append(run_seconds)

    def skipped(self, batcher: str, rows: int) -> None:
        assert batcher == "test"
        self.skipped_rows += rows


class Setup:
    """A started batcher with its model and observer."""

    def __init__(
        self,
        max_batch_rows: int = 4,
        max_queue_rows: int = 100,
        queue_timeout: float = LONG,
        run_limit: float = LONG,
    ) -> None:
        self.model = Model(max_batch_rows)
        self.observer = Observer()
        self.batcher = Batcher(
            "test",
            self.model.run,
            max_batch_rows=max_batch_rows,
            max_queue_rows=max_queue_rows,
            queue_timeout=queue_timeout,
            observer=self.observer,
            run_limit=run_limit,
        )

    async def submit(self, *values: int) -> asyncio.Task[tuple[Array, ...]]:
        """Submit one row per value, without waiting for the answer."""
        task = asyncio.create_task(self.batcher.submit(rows(*values)))
        await asyncio.sleep(0)
        return task

    async def hold(self) -> asyncio.Task[tuple[Array, ...]]:
        """Make the worker wait inside a run of the single row 0."""
        self.model.free.clear()
        task = await self.submit(0)
        await self.model.running()
        return task


@asynccontextmanager
async def started(**limits: Any) -> AsyncIterator[Setup]:
    setup = Setup(**limits)
    setup.batcher.start()
    try:
        yield setup
    finally:
        setup.model.free.set()
        async with asyncio.timeout(LONG):
            await setup.batcher.drain()


def worker_is_alive() -> bool:
    return any(thread.name == "batcher-test" for thread in threading.enumerate())


def rows(*values: int) -> Array:
    return np.array([[value, value] for value in values])


async def check(task: asyncio.Task[tuple[Array, ...]], *values: int) -> None:
    doubled, firsts = await task
    np.testing.assert_array_equal(doubled, 2 * rows(*values))
    np.testing.assert_array_equal(firsts, values)
