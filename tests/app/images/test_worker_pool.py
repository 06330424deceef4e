"""The threads for images: order, bound, failures, cancellation."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from app.errors import NotReady, QueueFull, QueueTimeout
from app.images.worker_pool import ItemError, TookTooLong, WorkerPool


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    pool = WorkerPool(2, 4, item_timeout=60, queue_timeout=60)
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
    pool = WorkerPool(1, 4, item_timeout=60, queue_timeout=60)
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
    pool = WorkerPool(1, 4, item_timeout=60, queue_timeout=60)
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


async def test_what_takes_too_long_is_given_up_and_the_thread_replaced() -> None:
    pool = WorkerPool(1, 4, item_timeout=0.05, queue_timeout=60)
    release = threading.Event()
    with pytest.raises(ItemError) as caught:
        await pool.map(lambda _: release.wait(timeout=30), [1])
    assert isinstance(caught.value.error, TookTooLong)
    assert pool.lost == 1
    assert await pool.map(str, range(4)) == ["0", "1", "2", "3"]
    release.set()
    while pool.lost:
        await asyncio.sleep(0.005)
    assert await pool.map(str, range(4)) == ["0", "1", "2", "3"]
    pool.close()


async def test_without_any_thread_left_work_is_refused_until_one_comes_back() -> None:
    pool = WorkerPool(2, 8, item_timeout=0.05, queue_timeout=60)
    release = threading.Event()
    for _ in range(4):
        pool.check()
        with pytest.raises(ItemError):
            await pool.map(lambda _: release.wait(timeout=30), [1])
    assert pool.lost == 4
    with pytest.raises(NotReady):
        await pool.map(str, [1])
    release.set()
    while pool.lost:
        await asyncio.sleep(0.005)
    pool.check()
    assert await pool.map(str, range(8)) == [str(number) for number in range(8)]
    pool.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("images-")]


async def test_waiting_for_a_thread_has_an_end() -> None:
    pool = WorkerPool(1, 4, item_timeout=60, queue_timeout=0.05)
    release = threading.Event()
    busy = asyncio.ensure_future(pool.map(lambda _: release.wait(timeout=30), [1]))
    await asyncio.sleep(0)
    with pytest.raises(QueueTimeout):
        await pool.map(str, [1, 2])
    pool.check_room(3)
    release.set()
    assert await busy == [True]
    assert await pool.map(str, range(4)) == ["0", "1", "2", "3"]
    pool.close()


async def test_no_timer_stays_behind() -> None:
    pool = WorkerPool(1, 4, item_timeout=0.01, queue_timeout=0.01)
    await pool.map(str, [1])
    while pool._sweeper is not None:
        await asyncio.sleep(0.005)
    pool.close()
