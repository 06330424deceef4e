"""The threads for pictures: order, bound, failures, cancellation."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from app.errors import QueueFull
from app.pool import ItemError, WorkerPool


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    pool = WorkerPool(threads=2, max_items=4)
    yield pool
    pool.close()


async def test_results_keep_the_order(pool: WorkerPool) -> None:
    assert await pool.map(str, [3, 1, 2]) == ["3", "1", "2"]
    assert await pool.map(str, []) == []


async def test_two_items_are_worked_on_at_once(pool: WorkerPool) -> None:
    together = threading.Barrier(2)
    arrivals = await pool.map(lambda _: together.wait(timeout=10), [0, 1])
    assert sorted(arrivals) == [0, 1]


async def test_the_first_failure_in_order_is_reported(pool: WorkerPool) -> None:
    second_failed = threading.Event()

    def work(item: int) -> int:
        if item == 1:
            second_failed.set()
            raise ValueError("second")
        second_failed.wait(timeout=10)
        raise KeyError("first")

    with pytest.raises(ItemError) as caught:
        await pool.map(work, [0, 1])
    assert caught.value.index == 0
    assert isinstance(caught.value.error, KeyError)


async def test_items_after_a_failure_are_skipped() -> None:
    pool = WorkerPool(threads=1, max_items=4)
    met = []

    def work(item: int) -> None:
        met.append(item)
        if item == 1:
            raise ValueError

    with pytest.raises(ItemError):
        await pool.map(work, [0, 1, 2, 3])
    pool.close()
    assert met == [0, 1]


async def test_full_pool_refuses_and_recovers(pool: WorkerPool) -> None:
    release = threading.Event()
    held = asyncio.ensure_future(pool.map(lambda _: release.wait(timeout=10), range(3)))
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await pool.map(str, [1, 2])
    release.set()
    assert await held == [True] * 3
    assert await pool.map(str, range(4)) == ["0", "1", "2", "3"]


async def test_cancelled_work_is_skipped_and_gives_its_room_back() -> None:
    pool = WorkerPool(threads=1, max_items=4)
    release, met = threading.Event(), []

    def work(item: int) -> None:
        met.append(item)
        release.wait(timeout=10)

    first = asyncio.ensure_future(pool.map(work, [1]))
    second = asyncio.ensure_future(pool.map(work, [2, 3]))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    release.set()
    await first
    assert await pool.map(str, range(4)) == ["0", "1", "2", "3"]
    pool.close()
    assert met == [1]
