"""AppState: what a running app holds, so that nothing needs to be global."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request

from app.errors import NotReady
from app.images.worker_pool import WorkerPool
from app.inference.codes import Codes
from app.inference.vae import Vae
from app.model.manifest import ModelFolder
from app.server.metrics import Metrics
from app.settings import Settings
from app.timings import Timings

if TYPE_CHECKING:
    from app.server.tracing import Tracing


@dataclass(slots=True)
class AppState:
    """One app's settings and, between start and end of its lifespan, its model and its threads.

    Attributes:
        folder: the model's files where they have been read before the start, which uses them up.
        decoders: the model's decoders where clients may load them, else None.
        codes: what reads and writes the model's codes, where it has any.
        unpacked_bytes: what the packed bodies of all requests that are being answered have unpacked to.
    """

    settings: Settings
    metrics: Metrics
    folder: ModelFolder | None = None
    decoders: ModelFolder | None = None
    tracing: "Tracing | None" = None
    vae: Vae | None = None
    codes: Codes | None = None
    pool: WorkerPool | None = None
    draining: bool = False
    unpacked_bytes: int = 0

    def parts(self) -> tuple[Vae, WorkerPool]:
        """The model and the threads for images.

        Raises:
            NotReady: they are not there yet, or new work is no longer taken.
        """
        if self.draining:
            raise NotReady("the service is shutting down")
        if self.vae is None or self.pool is None:
            raise NotReady("the service is starting")
        return self.vae, self.pool


def state_of(request: Request) -> AppState:
    """The state of the app that a request is for."""
    state: AppState = request.scope["app"].state.app_state
    return state


def timings_of(request: Request) -> Timings:
    """Where the seconds of a request are recorded."""
    timings: Timings = request.scope["state"]["timings"]
    return timings
