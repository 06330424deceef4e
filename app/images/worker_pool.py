"""Worker pool: a few threads that decode and encode images beside the event loop, their queue bounded."""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, TypeVar

from app.errors import NotReady, QueueFull, QueueTimeout

Item = TypeVar("Item")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)


class Job:
    """The items of one request. Any thread may work on any of them; the last wakes the event loop, once."""

    def __init__(self, work: Callable[[Any], Any], items: Sequence[Any]) -> None:
        self.work = work
        self.items = items
        self.results: list[Any] = [None] * len(items)
        self.error: Exception | None = None
        self.failed_at = len(items)
        self.left = len(items)
        self.submitted = time.monotonic()
        self.begun = False
        self.lock = threading.Lock()
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self.loop.create_future()

    def run(self, index: int) -> bool:
        """Work on one item; True when it was the last of the job. After a failure only earlier items go on,
        so that the error reported is the first in order and not the first in time."""
        self.begun = True
        if index < self.failed_at and not self.done.done():
            try:
                self.results[index] = self.work(self.items[index])
            except Exception as error:
                self.fail(index, error)
        with self.lock:
            self.left -= 1
            return self.left == 0

    def fail(self, index: int, error: Exception) -> None:
        """Keep an error, unless an earlier item has failed."""
        with self.lock:
            if index < self.failed_at:
                self.failed_at, self.error = index, error


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


class TookTooLong(Exception):
    """The work on one item was given up."""


class _Worker:
    """A thread and what it is busy with; the lock guards the moment at which it is given up."""

    def __init__(self, target: Callable[["_Worker"], None], name: str) -> None:
        self.lock = threading.Lock()
        self.task: tuple[Job, int] | None = None
        self.since = 0.0
        self.given_up = False
        self.thread = threading.Thread(target=target, args=(self,), name=name, daemon=True)


class WorkerPool:
    """Threads for work that mostly runs outside the interpreter lock. Use it from one event loop.

    A thread that is busy with one item for too long cannot be stopped: its request is answered, another
    thread takes its place, and it ends when it comes back. There are at most twice as many threads as asked
    for; with all of them lost, the pool refuses work until one comes back.
    """

    def __init__(self, threads: int, max_items: int, item_timeout: float, queue_timeout: float) -> None:
        """Start the threads.

        Args:
            threads: how many items are worked on at a time.
            max_items: the most items waiting or worked on; a request that would exceed it is refused.
            item_timeout: seconds after which an item that is worked on is given up.
            queue_timeout: seconds a request may wait until its first item is worked on.
        """
        self._queue: SimpleQueue[tuple[Job, int] | None] = SimpleQueue()
        self._max_items = max_items
        self._item_timeout = item_timeout
        self._queue_timeout = queue_timeout
        self._items = 0
        self._jobs: set[Job] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._threads = threads
        self._workers: set[_Worker] = set()
        self._lost: set[_Worker] = set()
        self._fill()

    def _fill(self) -> None:
        """Start threads until there are enough, or as many as may be in all."""
        while len(self._workers) < min(self._threads, 2 * self._threads - len(self._lost)):
            worker = _Worker(self._work, f"images-{len(self._workers)}")
            self._workers.add(worker)
            worker.thread.start()

    @property
    def lost(self) -> int:
        """Threads that have been given up and not come back."""
        return len(self._lost)

    @property
    def has_waiting(self) -> bool:
        """Whether there are more items than threads."""
        return self._items > self._threads

    def check(self) -> None:
        """Raises NotReady when there is no thread that could do anything."""
        if not self._workers:
            raise NotReady("all threads for pictures are stuck in one each")

    def check_room(self, items: int = 1) -> None:
        """Raises QueueFull when so many items would be refused now, and NotReady as `check` does."""
        self.check()
        if self._items + items > self._max_items:
            raise QueueFull(f"{self._items} pictures are waiting or worked on; try again later")

    async def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Apply `work` to each item; the results keep the order of the items.

        Raises:
            QueueFull: there is no room for the items; none was begun.
            QueueTimeout: no item was begun in time.
            NotReady: every thread is stuck.
            ItemError: the first item in order on which the work failed, or took too long (TookTooLong).
        """
        if not items:
            return []
        self.check_room(len(items))
        self._items += len(items)
        job = Job(work, items)
        self._jobs.add(job)
        for index in range(len(items)):
            self._queue.put((job, index))
        if self._sweeper is None:
            self._sweep_in(min(self._item_timeout, self._queue_timeout))
        await job.done
        if job.error is not None:
            raise ItemError(job.failed_at, job.error)
        return job.results

    def close(self) -> None:
        """Finish what is queued and end the threads; those that were given up are left to themselves."""
        for _ in self._workers:
            self._queue.put(None)
        for worker in self._workers:
            worker.thread.join(self._item_timeout)
        if self._sweeper is not None:
            self._sweeper.cancel()

    def _work(self, worker: _Worker) -> None:
        while (task := self._queue.get()) is not None:
            job, index = task
            with worker.lock:
                worker.task, worker.since = task, time.monotonic()
            last = job.run(index)
            with worker.lock:
                worker.task = None
                given_up = worker.given_up
            try:
                if last:
                    job.loop.call_soon_threadsafe(self._finish, job)
                if given_up:
                    job.loop.call_soon_threadsafe(self._come_back, worker)
            except RuntimeError:  # the event loop was closed: nobody waits any more
                return
            if given_up:
                return

    def _finish(self, job: Job) -> None:
        self._release(job)
        if not job.done.done():
            job.done.set_result(None)

    def _release(self, job: Job) -> None:
        if job in self._jobs:
            self._jobs.remove(job)
            self._items -= len(job.items)

    def _come_back(self, worker: _Worker) -> None:
        self._lost.discard(worker)
        self._fill()

    def _sweep_in(self, seconds: float) -> None:
        """Set the one timer of all jobs: a thread that is stuck can only be noticed by another."""
        loop = asyncio.get_running_loop()
        self._sweeper = loop.call_later(max(seconds, 0.001), self._sweep)

    def _sweep(self) -> None:
        """Give up what is due, and come again when the next thing can be due, as long as there is work."""
        now = time.monotonic()
        due = [self._give_up_if_late(worker, now) for worker in list(self._workers)]
        self._fill()
        for job in [job for job in self._jobs if not job.begun]:
            if job.submitted + self._queue_timeout <= now:
                waited = f"the pictures waited for more than {self._queue_timeout:g} s"
                self._abandon(job, QueueTimeout(waited))
            else:
                due.append(job.submitted + self._queue_timeout)
        self._sweeper = None
        if self._jobs:
            patience = min(self._item_timeout, self._queue_timeout)
            self._sweep_in(min(now + patience, *due, math.inf) - now)

    def _give_up_if_late(self, worker: _Worker, now: float) -> float:
        """When the worker's item is due; it is given up if that is past."""
        with worker.lock:
            if worker.task is None:
                return math.inf
            if worker.since + self._item_timeout > now:
                return worker.since + self._item_timeout
            job, index = worker.task
            worker.given_up = True
        self._workers.remove(worker)
        self._lost.add(worker)
        logger.error("a thread has been busy with one picture for more than %g s", self._item_timeout)
        job.fail(index, TookTooLong(f"given up after {self._item_timeout:g} s"))
        self._abandon(job)
        return math.inf

    def _abandon(self, job: Job, error: Exception | None = None) -> None:
        """Answer a job whose items will not all be worked on."""
        self._release(job)
        if not job.done.done():
            if error is None:
                job.done.set_result(None)
            else:
                job.done.set_exception(error)
