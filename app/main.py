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
from starlette.middleware.exceptions import ExceptionMiddleware

from app.api import health, openapi
from app.api.endpoints import ROUTES
from app.errors import ServiceError
from app.images.worker_pool import WorkerPool
from app.inference.session import BATCH_ROWS, SessionSpec
from app.inference.vae import load_vae
from app.server import logging_setup
from app.server.asgi import App
from app.server.dispatch import Endpoints
from app.server.metrics import Metrics
from app.server.middleware import ApiKey, BodyLimit, PlainStartupError, Tracing
from app.server.problem_details import on_http_exception, on_service_error
from app.settings import Settings
from app.state import Service
from app.web import swagger
from app.web.page import Page

TIDY_SECONDS = 0.5


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service as an ASGI app; without settings they are read from the environment."""
    settings = settings or Settings()
    page = Page()
    endpoints = frozenset(("/", *(route.path for route in (*ROUTES, *health.ROUTES))))
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
    app.router.routes[:0] = (*ROUTES, *health.ROUTES, *page.routes, swagger.ROUTE)
    keys = settings.read_keys()
    document = openapi.document(app.version, bool(keys))
    app.openapi = lambda: document  # type: ignore[method-assign]  # FastAPI's own way to a document made by hand
    # The whole stack, from the inside out, in place of FastAPI's: each layer costs every request its share.
    handlers = {ServiceError: on_service_error, HTTPException: on_http_exception}
    stack: App = Endpoints(ExceptionMiddleware(app.router, handlers), (*ROUTES, *health.ROUTES))
    stack = BodyLimit(stack, settings.max_body_bytes, settings.max_held_bytes)
    if keys:
        stack = ApiKey(stack, keys, frozenset(route.path for route in ROUTES))
    if settings.cors_origins:
        stack = CORSMiddleware(
            stack,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Request-ID"],
            expose_headers=["Retry-After", "Server-Timing", "X-Model", "X-Request-ID", "X-Seed"],
        )
    app.middleware_stack = PlainStartupError(Tracing(stack, metrics, endpoints))
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
            settings.precision,
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
    tidying = asyncio.create_task(_tidy(service.metrics))
    with _draining_on_sigterm(service):
        yield {"settings": settings}  # for app.server.uvicorn_protocol
    tidying.cancel()
    service.draining = True
    await vae.drain()
    vae.close()
    pool.close()


async def _tidy(metrics: Metrics) -> None:
    """Do every now and then what need not be done for each request."""
    while True:
        await asyncio.sleep(TIDY_SECONDS)
        metrics.settle()
        logging_setup.flush()


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
