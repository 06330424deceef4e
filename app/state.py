"""AppState: what a running app holds, so that nothing needs to be global."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request

from app.codes import wire
from app.errors import NotOffered, NotReady, WrongModel
from app.images.worker_pool import WorkerPool
from app.inference.codes import Codes
from app.inference.older_models import OlderModel, OlderModels
from app.inference.vae import Vae
from app.model.manifest import Manifest, ModelFolder
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
        older: other models, of which codes are read.
        unpacked_bytes: what the packed bodies of all requests that are being answered have unpacked to.
    """

    settings: Settings
    metrics: Metrics
    folder: ModelFolder | None = None
    decoders: ModelFolder | None = None
    tracing: "Tracing | None" = None
    vae: Vae | None = None
    codes: Codes | None = None
    older: OlderModels | None = None
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

    def is_calm(self) -> bool:
        """Whether no image waits for a thread and no row for a run; may be asked on any thread."""
        vae, pool = self.vae, self.pool
        return not (vae and any(vae.queued_rows().values())) and not (pool and pool.has_waiting)

    def readable(self) -> list[str]:
        """The ids of all models of which codes are read, the served one first."""
        vae, _ = self.parts()
        return [vae.manifest.id] * (self.codes is not None) + list(self.older.opened if self.older else ())

    def older_model(self, code: bytes) -> OlderModel | None:
        """The older model that a code is of; None where it is of the served one.

        Raises:
            DamagedCode. NotOffered: no code of any model is read here. WrongModel. NotReady.
        """
        vae, _ = self.parts()
        readable = self.readable()
        if not readable:
            raise NotOffered(f"{vae.manifest.id} has no codes")
        tag, codes = wire.tag_in(code), vae.manifest.codes
        if self.codes is not None and codes is not None and codes.tag == tag:
            return None
        older = None if self.older is None else self.older.find(tag)
        if older is None:
            raise WrongModel(f"{wire.describe(tag)}; this service reads those of {', '.join(readable)}")
        return older

    def read_code(self, code: bytes) -> Manifest:
        """The model of a code, all of which has been read; it takes up to 10 ms.

        Raises:
            DamagedCode, WrongModel, NotOffered, NotReady.
        """
        older, (vae, _) = self.older_model(code), self.parts()
        if older is not None:
            older.codec.unpack(code)
        elif self.codes is not None:
            self.codes.read(code)
        return vae.manifest if older is None else older.manifest


def state_of(request: Request) -> AppState:
    """The state of the app that a request is for."""
    state: AppState = request.scope["app"].state.app_state
    return state


def timings_of(request: Request) -> Timings:
    """Where the seconds of a request are recorded."""
    timings: Timings = request.scope["state"]["timings"]
    return timings
