"""Refiner: latents brought nearer to their very images, in a stage that plain encoding never waits for.

It has a batcher, a queue and a thread of its own. On a CPU it shares the cores with encoder and decoder and
costs ten times what they do: hence its batches are small, it runs on one thread, and the system gives that
thread what the others leave.
"""

import logging
from dataclasses import replace

import numpy as np

from app.images.arrays import ImageArray
from app.inference.batch import Array
from app.inference.batcher import Batcher, BatchObserver
from app.inference.session import CPU, Session, SessionSpec, open_sessions, refiner_graph
from app.model.latents import Latents
from app.model.manifest import ModelFile, ModelFolder
from app.timings import Timings

CPU_BATCH_ROWS = 4
"""Most rows of a run on a CPU, at 12 to 15 ms each whatever the batch: who comes next waits for its end."""
NICENESS = 10
"""How far the thread stands back: of a core that others want too it gets a tenth, as Linux has it."""

logger = logging.getLogger(__name__)


class Refiner:
    """The refining graph behind its batcher, whose rows are pairs of an image and a latent."""

    def __init__(
        self,
        session: Session,
        *,
        max_queue_rows: int,
        queue_timeout: float,
        observer: BatchObserver,
    ) -> None:
        """Put a batcher before a session of `refiner_graph`; for the limits see Batcher."""
        self._session = session
        self._pair = np.dtype([(each.name, each.dtype, each.row_shape) for each in session.graph.inputs])
        self.batcher = Batcher(
            "refiner",
            self._run,
            max_batch_rows=session.max_batch_rows,
            max_queue_rows=max_queue_rows,
            queue_timeout=queue_timeout,
            observer=observer,
            niceness=NICENESS,
            stage="refine",
        )

    async def refine(self, images: ImageArray, latents: Latents, timings: Timings | None = None) -> Latents:
        """Latents (N, L) nearer to the images (N, H, W, 3) uint8 than those given, which are its start.

        Args:
            timings: gets the wait as `queue` and the rest as `refine`.

        Raises:
            what Batcher.submit raises.
        """
        pairs = np.empty(len(images), self._pair)
        for name, values in zip(self._pair.names or (), (images, latents), strict=True):
            pairs[name] = values
        (refined,) = await self.batcher.submit(pairs, timings)
        return refined

    def _run(self, pairs: Array) -> tuple[Array, ...]:
        images, latents = (np.ascontiguousarray(pairs[name]) for name in self._pair.names or ())
        return (run_refiner(self._session, images, latents),)


def run_refiner(session: Session, images: ImageArray, latents: Latents) -> Latents:
    """What a session of `refiner_graph` makes of images (N, H, W, 3) uint8 and latents (N, L) float32.

    A row that comes out as no number keeps the latent it came with, and the log says so.
    """
    (found,) = session.run(images, latents)
    finite = np.isfinite(found).all(axis=1, keepdims=True)
    if not finite.all():
        bad = np.count_nonzero(~finite)
        logger.error("the refiner gave latents that are not finite for %d of %d rows", bad, len(found))
    return np.where(finite, found, latents)


def open_refiner(folder: ModelFolder, file: ModelFile, spec: SessionSpec, provider: str) -> Session:
    """Open and warm up a refiner on the provider of encoder and decoder.

    Raises:
        ModelFolderError, ProviderUnavailable.
    """
    if provider == CPU:
        rows = min(spec.max_batch_rows or CPU_BATCH_ROWS, CPU_BATCH_ROWS)
        spec = replace(spec, device="cpu", threads=1, max_batch_rows=rows)
    else:
        spec = replace(spec, device="cuda")
    graph = refiner_graph(folder.manifest, file)
    (session,) = open_sessions({graph: folder.content(file)}, spec)
    return session
