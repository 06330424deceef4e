"""What a running app holds, so that nothing needs to be global."""

from dataclasses import dataclass

from starlette.requests import Request

from app.errors import NotReady
from app.images.worker_pool import WorkerPool
from app.inference.vae import Vae
from app.server.metrics import Metrics
from app.settings import Settings
from app.timings import Stages


@dataclass(slots=True)
class Service:
    """One app's settings and, between start and end of its lifespan, its model and its threads."""

    settings: Settings
    metrics: Metrics
    vae: Vae | None = None
    pool: WorkerPool | None = None
    draining: bool = False

    def parts(self) -> tuple[Vae, WorkerPool]:
        """The model and the threads for pictures.

        Raises:
            NotReady: they are not there yet, or new work is no longer taken.
        """
        if self.draining:
            raise NotReady("the service is shutting down")
        if self.vae is None or self.pool is None:
            raise NotReady("the service is starting")
        return self.vae, self.pool


def service_of(request: Request) -> Service:
    """The service a request is for."""
    service: Service = request.scope["app"].state.service
    return service


def stages_of(request: Request) -> Stages:
    """Where the seconds of a request are recorded."""
    stages: Stages = request.scope["state"]["stages"]
    return stages
