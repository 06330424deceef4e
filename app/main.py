"""FastAPI app: middleware and routers put together, and its lifespan: sessions loaded, served, drained."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from types import FrameType
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from app import version
from app.api import openapi
from app.api.endpoints import car_pictures, compress, decoder_graphs, health, model, preview
from app.api.routing import has_suffix, paths
from app.errors import ServiceError
from app.images.decode import configure_pillow
from app.images.worker_pool import WorkerPool
from app.inference.codes import Codes, open_codes
from app.inference.older_models import OlderModels
from app.inference.session import BATCH_ROWS, SessionSpec
from app.inference.vae import Vae, load_vae
from app.model.manifest import ModelFolder, read_model_folder
from app.server.compression import Compression
from app.server.metrics import Metrics, shared_folder
from app.server.middleware import ApiKey, BodyLimit, FaultsAsProblems, RequestLog, StartupErrorLine
from app.server.problem_details import on_http_exception, on_service_error
from app.settings import Settings
from app.state import AppState
from app.web.car_page import CAR, CarRoute, is_car_page
from app.web.page import ASSETS, DOCS, PAGE, Page

if TYPE_CHECKING:
    from app.server.tracing import Tracing

OPENAPI = "/openapi.json"
UNTRACED: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
"""Said to FastAPI, which would else look for a tracer at every request."""


def create_app(settings: Settings | None = None, folder: ModelFolder | None = None) -> FastAPI:
    """The service as an ASGI app.

    Args:
        settings: read from the environment where they are not given.
        folder: the model; read at the start of the lifespan where it is not given.
    """
    settings = settings or Settings()
    keys = settings.read_keys()
    page = Page()
    routers = model.router, compress.router, car_pictures.router, preview.router, decoder_graphs.router
    protected = frozenset(path for router in routers for path in paths(router))
    open_paths = frozenset((PAGE, DOCS, OPENAPI, *paths(health.router)))
    named = protected.union((PAGE, CAR), paths(health.router))

    def is_open(path: str) -> bool:
        return path in open_paths or path.startswith(ASSETS) or is_car_page(path)

    tracing = open_tracing(settings)
    metrics = Metrics(named, settings.queue_timeout, settings.max_batch_rows or max(BATCH_ROWS.values()))
    # From the outside in: what is refused early costs little.
    middleware = [
        Middleware(StartupErrorLine),
        Middleware(
            RequestLog, observer=metrics, endpoints=named, trace_of=None if tracing is None else tracing.trace
        ),
    ]
    if settings.cors_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.cors_origins,
                allow_methods=["GET", "POST"],
                allow_headers=["*"],  # tracing adds headers of its own, and none of them is trusted here
                expose_headers=["Retry-After", "Server-Timing", "X-Model", "X-Request-ID", "X-Seed"],
            )
        )
    middleware.append(Middleware(FaultsAsProblems))
    if keys:
        middleware.append(Middleware(ApiKey, keys=keys, is_open=is_open))
    middleware.append(
        Middleware(BodyLimit, max_body_bytes=settings.max_body_bytes, max_held_bytes=settings.max_held_bytes)
    )
    middleware.append(Middleware(Compression))
    app = FastAPI(
        title="car-vae",
        version=version(),
        description="A variational autoencoder for photographs of cars: images to latents and back.",
        lifespan=_lifespan,
        # As they are: FastAPI matches the routes of an included router twice for each request. They are tried
        # one by one, and few requests name a format in their path.
        routes=sorted(
            [
                *model.router.routes,
                *compress.router.routes,
                *preview.router.routes,
                *car_pictures.router.routes,
                *health.router.routes,
                *page.routes,
                CarRoute(page),
                *decoder_graphs.router.routes,
            ],
            key=has_suffix,
        ),
        middleware=middleware,
        exception_handlers={ServiceError: on_service_error, HTTPException: on_http_exception},
        openapi_url=OPENAPI,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=UNTRACED if tracing is None else tracing.fastapi_options(),
    )
    state = app.state.app_state = AppState(settings, metrics, folder, tracing=tracing)

    @cache
    def document(latent_dim: int | None) -> openapi.Document:
        limits = openapi.Limits(latent_dim, settings.max_items, settings.max_output_pixels)
        return openapi.document(app, protected if keys else frozenset(), limits)

    # FastAPI's own way to extend it; made when it is first asked for.
    app.openapi = lambda: document(state.vae and state.vae.manifest.latent_dim)  # type: ignore[method-assign]
    return app


def open_tracing(settings: Settings) -> "Tracing | None":
    """What traces requests, where that is asked for; nothing of it is imported where it is not.

    Raises:
        TracingUnavailable: it is asked for and is not there.
    """
    if not settings.tracing:
        return None
    from app.server.tracing import Tracing

    return Tracing()


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[dict[str, object]]:
    state: AppState = app.state.app_state
    settings = state.settings
    configure_pillow()
    vae, codes, older = await asyncio.to_thread(_load, state)
    pool = WorkerPool(
        settings.picture_threads,
        settings.queue_rows,
        item_timeout=settings.decode_timeout,
        queue_timeout=settings.queue_timeout,
    )
    vae.start()
    graphs = vae.graphs
    precisions = {"encoder": graphs.encoder, "decoder": graphs.decoder}
    state.metrics.serving(vae.manifest.id, graphs.provider, precisions)
    if codes is not None:
        codes.start()
    state.vae, state.codes, state.older, state.pool = vae, codes, older, pool
    if state.tracing is not None:
        state.tracing.start()
    try:
        with _draining_on_sigterm(state):
            yield {"settings": settings}  # for app.server.uvicorn_protocol
    finally:
        state.draining = True
        await vae.drain()
        await older.drain()
        if codes is not None:
            await codes.drain()
            codes.close()
        older.close()
        vae.close()
        pool.close()
        if state.tracing is not None:
            await state.tracing.close()


def _load(state: AppState) -> tuple[Vae, Codes | None, OlderModels]:
    """Open the model, and let go of the bytes of its files, but for those that clients may load."""
    settings = state.settings
    folder = state.folder or read_model_folder(settings.model_dir)
    state.folder = None
    if settings.serve_decoder:
        state.decoders = folder.only(folder.manifest.files.decoders().values())
    spec = SessionSpec(
        settings.device,
        settings.max_batch_rows,
        settings.threads,
        settings.device_id,
        settings.gpu_mem_limit,
        settings.precision,
    )
    vae = load_vae(
        folder,
        spec,
        max_queue_rows=settings.queue_rows,
        max_refine_rows=settings.max_refine_rows,
        queue_timeout=settings.queue_timeout,
        observer=state.metrics,
        shared=shared_folder(),
    )
    codes = open_codes(
        folder,
        vae.graphs,
        state.is_calm,
        refines=vae.refines,
        max_pixels=settings.max_pixels,
        decode_timeout=settings.decode_timeout,
        max_queue_rows=settings.max_pack_rows,
        queue_timeout=settings.queue_timeout,
        observer=state.metrics,
    )
    older = OlderModels(
        settings.older_models,
        vae.manifest,
        threads=settings.threads,
        max_queue_rows=settings.queue_rows,
        queue_timeout=settings.queue_timeout,
        observer=state.metrics,
    )
    return vae, codes, older


@contextmanager
def _draining_on_sigterm(state: AppState) -> Iterator[None]:
    """Turn readiness false at the very moment of SIGTERM, before the server goes on to stop."""
    servers_own = signal.getsignal(signal.SIGTERM)
    if not callable(servers_own) or threading.current_thread() is not threading.main_thread():
        yield
        return

    def drain(number: int, frame: FrameType | None) -> None:
        state.draining = True
        servers_own(number, frame)

    signal.signal(signal.SIGTERM, drain)
    yield
