"""CancelOnDisconnect: the context in which an endpoint's work is cancelled when its client goes away."""

import asyncio
from types import TracebackType
from typing import Self

from starlette.requests import ClientDisconnect, Request

PATIENCE = 0.05
"""Seconds a request waits before its connection is watched, so that quick ones never pay for it."""


class CancelOnDisconnect:
    """A context in which the task is cancelled when its client goes away; it ends with ClientDisconnect then.

    The whole body must have been received: what the connection says next can only be that it is closed.
    """

    def __init__(self, request: Request) -> None:
        self._receive = request.receive
        self._gone = False

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task(loop)
        self._watch: asyncio.Task[None] | None = None
        self._timer = loop.call_later(PATIENCE, self._start)
        return self

    def _start(self) -> None:
        self._watch = asyncio.create_task(self._wait())

    async def _wait(self) -> None:
        message = await self._receive()
        if message["type"] == "http.disconnect" and self._task is not None:
            self._gone = True
            self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()
        if (
            self._gone
            and self._task is not None
            and self._task.uncancel() == 0
            and kind is asyncio.CancelledError
        ):
            raise ClientDisconnect from None
