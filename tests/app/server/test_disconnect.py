"""CancelOnDisconnect: work ends with its client, and only then."""

import asyncio
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from app.server.disconnect import CancelOnDisconnect
from tests.app.server.conftest import no_more


def connection(gone: asyncio.Event) -> Request:
    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    return Request({"type": "http", "headers": []}, receive)


async def test_work_ends_when_the_client_goes() -> None:
    gone = asyncio.Event()
    gone.set()
    with pytest.raises(ClientDisconnect), CancelOnDisconnect(connection(gone)):
        await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_quick_work_never_looks_at_the_connection() -> None:
    with CancelOnDisconnect(Request({"type": "http", "headers": []}, no_more)):
        await asyncio.sleep(0)


async def test_slow_work_of_a_patient_client_goes_on() -> None:
    asked = asyncio.Event()

    async def receive() -> dict[str, Any]:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    with CancelOnDisconnect(Request({"type": "http", "headers": []}, receive)):
        await asked.wait()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_cancellation_from_outside_stays_one() -> None:
    started = asyncio.Event()

    async def work() -> None:
        with CancelOnDisconnect(connection(asyncio.Event())):
            started.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(work())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
