"""How a batcher takes runs that fail, die or hang, and how it drains, closes and ends."""

import asyncio
import logging
import threading

import pytest

from app.errors import InferenceFailed, NotReady
from app.inference.batch import Array
from app.inference.batcher import Batcher
from tests.app.inference.batching import LONG, Observer, Setup, check, rows, started, worker_is_alive


async def test_a_failed_batch_answers_only_its_own_requests(caplog: pytest.LogCaptureFixture) -> None:
    async with started() as setup:
        first = await setup.hold()
        doomed = [await setup.submit(1, 2, 3), await setup.submit(-1)]
        spared = await setup.submit(4)
        setup.model.free.set()
        with caplog.at_level(logging.CRITICAL + 1, "app.inference.batcher"):
            for task in doomed:
                with pytest.raises(InferenceFailed, match="the model failed on this batch") as caught:
                    await task
                assert "secret" not in str(caught.value)
        await check(first, 0)
        await check(spared, 4)
        assert setup.batcher.health().healthy


async def test_the_cause_of_a_failure_is_logged_and_unhealthy_until_a_batch_succeeds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with started() as setup:
        with pytest.raises(InferenceFailed):
            await setup.batcher.submit(rows(-1))
        assert "secret detail of the runtime" in caplog.text
        health = setup.batcher.health()
        assert worker_is_alive()
        assert not health.healthy
        assert health.reason == "the last batch of the test failed"
        await check(await setup.submit(1), 1)
        assert setup.batcher.health().healthy


async def test_the_rest_of_a_failed_request_does_not_run() -> None:
    async with started() as setup:
        with pytest.raises(InferenceFailed):
            await setup.batcher.submit(rows(1, 2, 3, -1, 5, 6, 7, 8, 9))
        await check(await setup.submit(1), 1)
        assert setup.model.sizes == [4, 1]
        assert setup.batcher.queued_rows == 0


async def test_outputs_of_another_size_fail_the_batch() -> None:
    def run(batch: Array) -> tuple[Array, ...]:
        return batch, batch[1:] if batch[0, 0] else batch

    batcher = Batcher(
        "test", run, max_batch_rows=4, max_queue_rows=4, queue_timeout=LONG, observer=Observer()
    )
    batcher.start()
    with pytest.raises(InferenceFailed, match="batch size mismatch: 2 rows went in and 2, 1 came out"):
        await batcher.submit(rows(1, 2))
    assert len((await batcher.submit(rows(0, 2)))[1]) == 2
    await batcher.drain()


async def test_when_the_worker_dies_everyone_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    entered, free = threading.Event(), threading.Event()

    def run(batch: Array) -> tuple[Array, ...]:
        entered.set()
        free.wait(LONG)
        raise SystemExit(len(batch))

    batcher = Batcher(
        "test", run, max_batch_rows=1, max_queue_rows=4, queue_timeout=LONG, observer=Observer()
    )
    batcher.start()
    tasks = [asyncio.create_task(batcher.submit(rows(value))) for value in (1, 2)]
    await asyncio.to_thread(entered.wait, LONG)
    free.set()
    for task in tasks:
        with pytest.raises(InferenceFailed, match="the model does not answer"):
            await task
    assert "the worker died" in caplog.text
    assert batcher.health().reason == "the worker of the test has died"
    with pytest.raises(NotReady, match="has died"):
        await batcher.submit(rows(3))
    await batcher.drain()
    assert not worker_is_alive()


async def test_a_hung_run_is_noticed_and_everyone_is_answered() -> None:
    async with started(run_limit=0.05) as setup:
        running = await setup.hold()
        waiting = await setup.submit(1)
        with pytest.raises(InferenceFailed, match="does not answer"):
            await running
        with pytest.raises(NotReady, match="does not answer"):
            await waiting
        assert setup.batcher.health().reason == "the test has been in one run for more than 0.05 s"
        with pytest.raises(NotReady, match=r"in one run for more than 0\.05 s"):
            await setup.batcher.submit(rows(2))
        setup.model.free.set()
        async with asyncio.timeout(LONG):
            while not setup.batcher.health().healthy:
                await asyncio.sleep(0.001)
        await check(await setup.submit(3), 3)


async def test_a_later_run_that_hangs_is_noticed_too() -> None:
    async with started(run_limit=0.05, max_batch_rows=1) as setup:
        for value in range(20):
            await check(await setup.submit(value), value)
        running = await setup.hold()
        with pytest.raises(InferenceFailed, match="does not answer"):
            await running


async def test_drain_finishes_what_was_accepted_and_refuses_the_rest() -> None:
    async with started() as setup:
        first = await setup.hold()
        waiting = [await setup.submit(1, 2, 3, 4, 5), await setup.submit(6)]
        draining = asyncio.create_task(setup.batcher.drain())
        await asyncio.sleep(0)
        with pytest.raises(NotReady, match="shutting down"):
            await setup.batcher.submit(rows(7))
        assert not draining.done()
        setup.model.free.set()
        await draining
        await check(first, 0)
        await check(waiting[0], 1, 2, 3, 4, 5)
        await check(waiting[1], 6)
        assert not worker_is_alive()
        await setup.batcher.drain()


async def test_drain_does_not_wait_for_a_hung_run() -> None:
    async with started(run_limit=0.05) as setup:
        running = await setup.hold()
        async with asyncio.timeout(LONG):
            await setup.batcher.drain()
        assert worker_is_alive()
        with pytest.raises(InferenceFailed):
            await running
        async with asyncio.timeout(LONG):
            await setup.batcher.drain()


async def test_a_batcher_that_was_not_started_refuses_and_drains_at_once() -> None:
    setup = Setup()
    with pytest.raises(NotReady, match="has not been started"):
        await setup.batcher.submit(rows(1))
    await setup.batcher.drain()


async def test_close_answers_what_is_waiting() -> None:
    async with started() as setup:
        running = await setup.hold()
        waiting = await setup.submit(1, 2)
        setup.batcher.close()
        with pytest.raises(NotReady, match="shutting down"):
            await waiting
        assert setup.observer.skipped_rows == 2
        setup.model.free.set()
        await check(running, 0)


def test_the_worker_ends_when_its_event_loop_was_closed() -> None:
    setup = Setup()

    async def abandon() -> None:
        setup.batcher.start()
        await setup.hold()

    asyncio.run(abandon())
    (worker,) = (thread for thread in threading.enumerate() if thread.name == "batcher-test")
    setup.model.free.set()
    worker.join(LONG)
    assert not worker.is_alive()
