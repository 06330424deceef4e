"""Server process of `car-vae serve`: settings and model checked, then uvicorn, or its supervisor."""

import gc
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from typing import TYPE_CHECKING, Any

import uvicorn
from pydantic import ValidationError
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from app.errors import StartupError
from app.model.manifest import read_model_folder
from app.server import logging_setup
from app.server.reuse_port import ReusePortSocket
from app.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

WORKER_PATIENCE = 10
"""Seconds after which a worker that does not answer its supervisor is replaced; uvicorn's own five are too
few on a machine that is short of cores."""


def run() -> int:
    """Serve until SIGTERM; gives the exit code, 0 after a drain and 1 after a refusal to start."""
    # uvicorn raises the signal again when it has drained: being asked to stop is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        config = configuration(Settings())
    except ValidationError as error:
        for fault in error.errors():
            name = "".join(f"CAR_VAE_{field}: ".upper() for field in fault["loc"][:1])
            print(name + fault["msg"].removeprefix("Value error, "), file=sys.stderr)
        return 1
    except StartupError as error:
        print(error, file=sys.stderr)
        return 1
    try:
        return _serve(config)
    except KeyboardInterrupt:
        return 0
    except SystemExit as exit_:
        return 1 if exit_.code == STARTUP_FAILURE else int(exit_.code or 0)


def _serve(config: uvicorn.Config) -> int:
    bound = config.bind_socket()  # by uvicorn's own way for one worker `::` would be IPv6 alone
    if config.workers == 1:
        _spare_from_collection()
        uvicorn.Server(config).run(sockets=[bound])
        return 0
    supervisor = Multiprocess(config, [ReusePortSocket.take_over(bound)])
    try:
        shared = tempfile.TemporaryDirectory(prefix="car-vae-metrics-")
    except OSError:
        print("several workers need a writable temporary folder for their metrics", file=sys.stderr)
        return 1
    with shared as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # read by app.server.metrics in the workers
        supervisor.run()
    return int(any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes))


def configuration(settings: Settings) -> uvicorn.Config:
    """uvicorn's configuration. Its access log is off: the middleware writes a line a request.

    Raises:
        StartupError: model, keys or tracing are not fit for it; said here, once, and not by every worker.
    """
    settings.read_keys()
    folder = read_model_folder(settings.model_dir)
    if settings.workers > 1:
        for older in settings.older_models:
            read_model_folder(older)
    app: Any = "app.serve:create_worker_app"  # each worker is a process, and makes its own
    if settings.workers == 1:
        from app.main import create_app  # not above: a supervisor of workers has no use for it

        app = create_app(settings, folder)
    elif settings.tracing:
        from app.server.tracing import Tracing

        Tracing()
    return uvicorn.Config(
        app,
        factory=settings.workers > 1,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        timeout_graceful_shutdown=settings.drain_timeout,
        timeout_keep_alive=settings.keep_alive_timeout,  # type: ignore[arg-type]  # a fraction does as well
        timeout_worker_healthcheck=WORKER_PATIENCE,
        http="app.server.uvicorn_protocol:LimitedHttpProtocol",
        log_config=logging_setup.configuration(settings.log_level, settings.log_format),
        log_level=settings.log_level,
        access_log=False,
        lifespan="on",
        server_header=False,
        proxy_headers=False,  # nothing here asks for the client's address
        ws="none",
    )


def create_worker_app() -> "FastAPI":
    """The app of a worker, which drains and ends, as after SIGTERM, when its supervisor is killed."""
    from app.main import create_app

    threading.Thread(target=_end_with_supervisor, name="supervisor", daemon=True).start()
    app = create_app()
    _spare_from_collection()
    return app


def _spare_from_collection() -> None:
    """Have the collector of reference cycles leave alone what is there now, for good: to walk through that
    takes 15 to 60 ms, once in a thousand requests or so, and nothing is answered meanwhile."""
    gc.collect()
    gc.freeze()


def _end_with_supervisor() -> None:
    supervisor = multiprocessing.parent_process()
    if supervisor is None:
        return
    supervisor.join()  # on a pipe that closes with it; uvicorn's own has both its ends in the worker
    signal.raise_signal(signal.SIGTERM)
