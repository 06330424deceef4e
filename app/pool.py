"""A few threads that decode and encode pictures beside the event loop, and a bound on what waits for them."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, TypeVar

from app.errors import QueueFull

Item = TypeVar("Item")
Result = TypeVar("Result")


class Job:
    """The items of one request. Any thread may work on any of them; the last wakes the event loop, once."""

    def __init__(self, work: Callable[[Any], Any], items: Sequence[Any]) -> None:
        self.work = work
        self.items = items
        self.results: list[Any] = [None] * len(items)
        self.error: Exception | None = None
        self.failed_at = len(items)
        self.left = len(items)
        self.lock = threading.Lock()
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self.loop.create_future()

    def run(self, index: int) -> bool:
        """Work on one item; True when it was the last of the job. After a failure only earlier items go on,
        so that the error reported is the first in order and not the first in time."""
        if index < self.failed_at and not self.done.cancelled():
            try:
                self.results[index] = self.work(self.items[index])
            except Exception as error:
                with self.lock:
                    if index < self.failed_at:
                        self.failed_at, self.error = index, error
        with self.lock:
            self.left -= 1
            return self.left == 0


class ItemError(Exception):
    """The work failed on one item; the cause is its own exception.

    Attributes:
        index: the item's place, from 0.
        error: what was raised.
    """

    def __init__(self, index: int, error: Exception) -> None:
        super().__init__(f"item {index}: {error}")
        self.index = index
        self.error = error


class WorkerPool:
    """Threads for work that mostly runs outside the interpreter lock. Use it from one event loop."""

    def __init__(self, threads: int, max_items: int) -> None:
        """Start the threads.

        Args:
            threads: how many items are worked on at a time.
            max_items: the most items waiting or worked on; a request that would exceed it is refused.
        """
        self._queue: SimpleQueue[tuple[Job, int] | None] = SimpleQueue()
        self._max_items = max_items
        self._items = 0
        self._threads = [
            threading.Thread(target=self._work, name=f"pictures-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    async def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Apply `work` to each item; the results keep the order of the items.

        Raises:
            QueueFull: there is no room for the items; none was begun.
            ItemError: the first item in order on which the work failed.
        """
        if not items:
            return []
        if self._items + len(items) > self._max_items:
            raise QueueFull(f"no room for {len(items)} more pictures; try again later")
        self._items += len(items)
        job = Job(work, items)
        for index in range(len(items)):
            self._queue.put((job, index))
        await job.done
        if job.error is not None:
            raise ItemError(job.failed_at, job.error)
        return job.results

    def close(self) -> None:
        """Finish what is queued and end the threads."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            job, index = task
            if job.run(index):
                try:
                    job.loop.call_soon_threadsafe(self._finish, job)
                except RuntimeError:  # the event loop was closed: nobody waits any more
                    return

    def _finish(self, job: Job) -> None:
        self._items -= len(job.items)
        if not job.done.done():
            job.done.set_result(None)
