"""A model that waits, or fails, when it is told to."""

import asyncio
import threading
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from app.inference.batcher import Batcher
from app.inference.vae import Vae
from tests.app.conftest import state_behind
from tests.tiny_model import HEIGHT, WIDTH


class Gate:
    """A Vae on the tiny model whose decoder waits until it is released; then it answers grey, or fails."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        queue_rows: int = 2,
        queue_timeout: float = 10.0,
        batch_rows: int = 1,
    ) -> None:
        self.service = state_behind(client)
        self.entered, self.release = threading.Event(), threading.Event()
        self.failing = False
        self.batches: list[int] = []
        decoder = Batcher(
            "decoder",
            self.run,
            max_batch_rows=batch_rows,
            max_queue_rows=queue_rows,
            queue_timeout=queue_timeout,
            observer=self.service.metrics,
        )
        self.real: Vae = self.service.vae
        self.decoder = decoder
        self.service.vae = Vae(
            self.real.manifest, self.real.prior, self.real._encoder, decoder, self.real.graphs
        )
        decoder.start()

    def run(self, rows: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        self.batches.append(len(rows))
        self.entered.set()
        assert self.release.wait(timeout=30)
        if self.failing:
            raise RuntimeError("CUDA error at /opt/secret")
        return (np.full((len(rows), HEIGHT, WIDTH, 3), 128, np.uint8),)

    async def wait_until_entered(self) -> None:
        await asyncio.to_thread(self.entered.wait, 30)

    async def end(self) -> None:
        self.release.set()
        await self.decoder.drain()
        self.service.vae = self.real
