"""The app: load, verify, warm up, serve, drain."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from types import FrameType

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from app import docs, openapi, probes, routes
from app.errors import ServiceError
from app.guards import ApiKey, BodyLimit, PlainStartupError, Tracing
from app.metrics import Metrics
from app.page import Page
from app.pool import WorkerPool
from app.problems import on_http_exception, on_service_error
from app.service import Service
from app.session import BATCH_ROWS, SessionSpec
from app.settings import Settings
from app.vae import load_vae


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service as an ASGI app; without settings they are read from the environment."""
    settings = settings or Settings()
    page = Page()
    endpoints = frozenset(("/", *(route.path for route in (*routes.ROUTES, *probes.ROUTES))))
    longest_batch = settings.max_batch_rows or max(BATCH_ROWS.values())
    metrics = Metrics(endpoints, settings.queue_timeout, longest_batch)
    app = FastAPI(
        title="car-vae",
        version=_version(),
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # else looked up for every request
    )
    app.state.service = Service(settings, metrics)
    app.router.routes[:0] = (*routes.ROUTES, *probes.ROUTES, *page.routes, docs.ROUTE)
    keys = settings.read_keys()
    document = openapi.document(app.version, bool(keys))
    app.openapi = lambda: document  # type: ignore[method-assign]  # FastAPI's own way to a document made by hand
    app.add_exception_handler(ServiceError, on_service_error)
    app.add_exception_handler(HTTPException, on_http_exception)
    # The last one added is the first to see a request.
    app.add_middleware(
        BodyLimit, max_body_bytes=settings.max_body_bytes, max_held_bytes=settings.max_held_bytes
    )
    if keys:
        app.add_middleware(ApiKey, keys=keys, protected=frozenset(route.path for route in routes.ROUTES))
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Request-ID"],
            expose_headers=["Retry-After", "Server-Timing", "X-Model", "X-Request-ID", "X-Seed"],
        )
    app.add_middleware(Tracing, observer=metrics, endpoints=endpoints)
    app.add_middleware(PlainStartupError)
    return app


def _version() -> str:
    try:
        return package_version("car-vae")
    except PackageNotFoundError:  # run from a checkout
        return "0"


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[dict[str, object]]:
    service: Service = app.state.service
    settings = service.settings
    vae = await asyncio.to_thread(
        load_vae,
        settings.model_dir,
        SessionSpec(
            settings.device,
            settings.max_batch_rows,
            settings.threads,
            settings.device_id,
            settings.gpu_mem_limit,
        ),
        max_queue_rows=settings.queue_rows,
        queue_timeout=settings.queue_timeout,
        observer=service.metrics,
    )
    pool = WorkerPool(
        settings.picture_threads,
        settings.queue_rows,
        item_timeout=settings.decode_timeout,
        queue_timeout=settings.queue_timeout,
    )
    vae.start()
    service.metrics.serving(vae.manifest.id, vae.provider)
    service.vae, service.pool = vae, pool
    with _draining_on_sigterm(service):
        yield {"settings": settings}  # for app.connections
    service.draining = True
    await vae.drain()
    vae.close()
    pool.close()


@contextmanager
def _draining_on_sigterm(service: Service) -> Iterator[None]:
    """Turn readiness false at the very moment of SIGTERM, before the server goes on to stop."""
    servers_own = signal.getsignal(signal.SIGTERM)
    if not callable(servers_own) or threading.current_thread() is not threading.main_thread():
        yield
        return

    def drain(number: int, frame: FrameType | None) -> None:
        service.draining = True
        servers_own(number, frame)

    signal.signal(signal.SIGTERM, drain)
    yield
