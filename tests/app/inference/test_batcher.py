"""Batches, bounds, deadlines, gathering and timings of a batcher."""

import asyncio
import time

import numpy as np
import pytest

from app.errors import QueueFull, QueueTimeout
from app.inference import batcher as batcher_module
from app.timings import Timings
from tests.app.inference.batching import LONG, Setup, check, rows, started


async def test_a_lone_request_runs_at_once_and_uncopied() -> None:
    async with started() as setup:
        mine = rows(1, 2)
        doubled, _ = await setup.batcher.submit(mine)
        np.testing.assert_array_equal(doubled, 2 * mine)
        assert setup.model.sizes == [2]
        assert np.shares_memory(setup.model.batches[0], mine)


async def test_requests_gather_while_a_batch_runs() -> None:
    async with started() as setup:
        first = await setup.hold()
        others = [await setup.submit(value) for value in (1, 2, 3, 4, 5)]
        assert setup.batcher.queued_rows == 5
        setup.model.free.set()
        await check(first, 0)
        for value, task in enumerate(others, start=1):
            await check(task, value)
        assert setup.model.sizes == [1, 4, 1]
        assert setup.observer.batches == [("test", 1, 5), ("test", 4, 1), ("test", 1, 0)]
        assert all(seconds >= 0 for seconds in setup.observer.run_seconds)


async def test_rows_are_counted_and_not_requests() -> None:
    async with started() as setup:
        await setup.hold()
        tasks = [await setup.submit(1, 2, 3), await setup.submit(4, 5), await setup.submit(6)]
        setup.model.free.set()
        await check(tasks[0], 1, 2, 3)
        await check(tasks[1], 4, 5)
        await check(tasks[2], 6)
        assert [batch[:, 0].tolist() for batch in setup.model.batches] == [[0], [1, 2, 3, 4], [5, 6]]


async def test_the_queue_is_bounded_in_rows() -> None:
    async with started(max_queue_rows=5) as setup:
        await setup.hold()
        accepted = [await setup.submit(1, 2, 3)]
        with pytest.raises(QueueFull, match="3 rows are waiting and 3 more would exceed 5") as caught:
            await setup.batcher.submit(rows(4, 5, 6))
        assert caught.value.retry_after >= 1
        accepted += [await setup.submit(4), await setup.submit(5)]
        with pytest.raises(QueueFull):
            await setup.batcher.submit(rows(6))
        assert setup.batcher.queued_rows == 5
        setup.model.free.set()
        await asyncio.gather(*accepted)
        assert setup.batcher.queued_rows == 0


@pytest.mark.parametrize("count", [0, 6])
async def test_a_request_that_could_never_run_is_an_error(count: int) -> None:
    async with started(max_queue_rows=5) as setup:
        with pytest.raises(ValueError, match=f"1 to 5 rows, not {count}"):
            await setup.batcher.submit(np.zeros((count, 2)))
        await check(await setup.submit(1, 2, 3, 4, 5), 1, 2, 3, 4, 5)


@pytest.mark.parametrize("limits", [{"max_batch_rows": 0}, {"max_queue_rows": 0}])
def test_limits_without_room_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        Setup(**limits)


async def test_the_deadline_holds_while_waiting_and_not_while_running() -> None:
    async with started(queue_timeout=0.02) as setup:
        running = await setup.hold()
        late = [await setup.submit(1), await setup.submit(2, 3)]
        for task in late:
            with pytest.raises(QueueTimeout, match=r"more than 0\.02 s"):
                await task
        assert not running.done()
        assert setup.observer.skipped_rows == 3
        assert setup.batcher.queued_rows == 0
        setup.model.free.set()
        await check(running, 0)
        await check(await setup.submit(4), 4)
        assert [batch[:, 0].tolist() for batch in setup.model.batches] == [[0], [4]]


async def test_each_request_has_its_own_deadline() -> None:
    async with started(queue_timeout=0.05) as setup:
        running = await setup.hold()
        first = await setup.submit(1)
        with pytest.raises(QueueTimeout):
            await first
        second = await setup.submit(2)
        assert not second.done()
        with pytest.raises(QueueTimeout):
            await second
        assert not running.done()


async def test_a_request_that_has_begun_has_no_deadline() -> None:
    async with started(queue_timeout=0.02) as setup:
        setup.model.free.clear()
        big = await setup.submit(1, 2, 3, 4, 5)
        await setup.model.running()
        late = await setup.submit(6)
        with pytest.raises(QueueTimeout):
            await late
        setup.model.free.set()
        await check(big, 1, 2, 3, 4, 5)


async def test_rows_of_clients_that_have_gone_are_skipped() -> None:
    async with started(max_queue_rows=5) as setup:
        await setup.hold()
        gone, stays = await setup.submit(1, 2, 3), await setup.submit(4)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert setup.batcher.queued_rows == 1
        assert setup.observer.skipped_rows == 3
        newcomer = await setup.submit(5, 6, 7, 8)
        setup.model.free.set()
        await check(stays, 4)
        await check(newcomer, 5, 6, 7, 8)
        assert [batch[:, 0].tolist() for batch in setup.model.batches] == [[0], [4, 5, 6, 7], [8]]


async def test_a_client_that_goes_during_its_run_loses_only_its_own_answer() -> None:
    async with started() as setup:
        await setup.hold()
        gone, stays = await setup.submit(1), await setup.submit(2)
        setup.model.free.set()
        await setup.model.running()
        gone.cancel()
        await check(stays, 2)
        await check(await setup.submit(3), 3)


async def test_the_rest_of_a_big_request_is_skipped_when_its_client_goes() -> None:
    async with started() as setup:
        setup.model.free.clear()
        big = await setup.submit(*range(10))
        await setup.model.running()
        big.cancel()
        await asyncio.gather(big, return_exceptions=True)
        setup.model.free.set()
        await check(await setup.submit(7), 7)
        assert setup.model.sizes == [4, 1]
        assert setup.observer.skipped_rows == 6


async def test_a_big_request_is_split_and_rejoined() -> None:
    async with started() as setup:
        await check(await setup.submit(*range(10)), *range(10))
        assert setup.model.sizes == [4, 4, 2]


async def test_a_big_request_lets_small_ones_pass() -> None:
    async with started() as setup:
        await setup.hold()
        big = await setup.submit(*range(10, 20))
        small = [await setup.submit(1), await setup.submit(2)]
        setup.model.free.set()
        await check(big, *range(10, 20))
        for value, task in enumerate(small, start=1):
            await check(task, value)
        batches = [batch[:, 0].tolist() for batch in setup.model.batches]
        assert batches == [[0], [10, 11, 12, 13], [1, 2, 14, 15], [16, 17, 18, 19]]


async def test_timings_get_the_seconds_in_the_queue_and_in_runs() -> None:
    async with started() as setup:
        await setup.hold()
        timings = Timings()
        waiting = asyncio.create_task(setup.batcher.submit(rows(*range(6)), timings))
        await asyncio.sleep(0)
        queued = time.monotonic()
        await asyncio.sleep(0.01)
        freed = time.monotonic()
        setup.model.free.set()
        await waiting
        assert list(timings.seconds) == ["queue", "inference"]
        assert setup.model.sizes == [1, 4, 2]
        assert timings.seconds["queue"] >= freed - queued
        assert timings.seconds["inference"] >= setup.observer.run_seconds[1]
        assert timings.rows == 6


async def test_results_are_not_shared_between_requests_or_reused() -> None:
    async with started() as setup:
        await setup.hold()
        first, second = await setup.submit(1), await setup.submit(2)
        setup.model.free.set()
        await first
        (await first)[0][:] = 99
        await check(second, 2)
        await check(await setup.submit(3, 4), 3, 4)
        await check(second, 2)


@pytest.mark.parametrize("seed", range(8))
async def test_many_submitters_get_exactly_their_own_rows(seed: int) -> None:
    random = np.random.RandomState(seed)
    answered = gone = 0

    async def client(setup: Setup, number: int) -> None:
        nonlocal answered, gone
        values = [1000 * number + row for row in range(random.randint(1, 13))]
        task = asyncio.create_task(setup.batcher.submit(rows(*values)))
        for _ in range(random.randint(0, 4)):
            await asyncio.sleep(0)
        if random.random() < 0.2:
            task.cancel()
        try:
            await check(task, *values)
            answered += 1
        except asyncio.CancelledError:
            gone += 1

    async with started(max_batch_rows=int(random.randint(1, 9)), max_queue_rows=10_000) as setup:
        async with asyncio.timeout(LONG):
            await asyncio.gather(*(client(setup, number) for number in range(300)))
        assert setup.batcher.queued_rows == 0
        assert answered + gone == 300
        assert answered > 200
        assert sum(setup.model.sizes) + setup.observer.skipped_rows >= answered


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher_module, "GATHERING_SECONDS", LONG)


@pytest.mark.usefixtures("patient")
async def test_rows_wait_for_those_that_are_expected() -> None:
    async with started() as setup:
        with setup.batcher.expecting(2):
            first = await setup.submit(1)
            second = await setup.submit(2)
        third = await setup.submit(3)
        await asyncio.gather(first, second, third)
        # When nothing is expected any more the worker may be quicker than the third.
        assert setup.model.sizes in ([3], [2, 1])


@pytest.mark.usefixtures("patient")
async def test_a_full_batch_does_not_wait() -> None:
    async with started(max_batch_rows=2) as setup:
        with setup.batcher.expecting(5):
            await (await setup.submit(1, 2))
        assert setup.model.sizes == [2]


async def test_rows_do_not_wait_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher_module, "GATHERING_SECONDS", 0.01)
    async with started() as setup:
        with setup.batcher.expecting(1):
            await (await setup.submit(1))
        assert setup.model.sizes == [1]


async def test_rows_that_leave_while_others_are_expected_leave_a_worker_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batcher_module, "GATHERING_SECONDS", 0.2)
    async with started() as setup:
        with setup.batcher.expecting(1):
            gone = await setup.submit(1)
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            await asyncio.sleep(0.4)
        await (await setup.submit(2))
        assert setup.model.sizes == [1]
        assert setup.observer.skipped_rows == 1


@pytest.mark.usefixtures("patient")
async def test_a_drain_does_not_wait_for_what_is_expected() -> None:
    async with started() as setup:
        with setup.batcher.expecting(1):
            last = await setup.submit(1)
            await setup.batcher.drain()
            assert last.done()
