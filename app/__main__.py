"""`python -m app`: serve until SIGTERM. Exit code 0 after a drain, 1 after a refusal to start."""

import signal
import sys
from copy import deepcopy
from typing import Any

import uvicorn
from pydantic import ValidationError
from uvicorn.config import LOGGING_CONFIG, STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from app.errors import StartupError
from app.manifest import read_manifest
from app.settings import Settings


def main() -> int:
    """Serve; gives the exit code."""
    # uvicorn raises the signal again when it has drained: being asked to stop is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        settings = Settings()
        read_manifest(settings.model_dir)  # refused here, once, and not by every worker
    except ValidationError as error:
        for fault in error.errors():
            name = "_".join(("CAR_VAE", *map(str, fault["loc"][:1]))).upper()
            print(f"{name}: {fault['msg']}", file=sys.stderr)
        return 1
    except StartupError as error:
        print(error, file=sys.stderr)
        return 1
    try:
        return _serve(configuration(settings))
    except KeyboardInterrupt:
        return 0
    except SystemExit as exit_:
        return 1 if exit_.code == STARTUP_FAILURE else int(exit_.code or 0)


def _serve(config: uvicorn.Config) -> int:
    if config.workers == 1:
        uvicorn.Server(config).run()
        return 0
    supervisor = Multiprocess(config, [config.bind_socket()])
    supervisor.run()
    return int(any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes))


def configuration(settings: Settings) -> uvicorn.Config:
    """uvicorn's configuration. There is no access log: the metrics count requests, and a line for each would
    cost as much as the rest of HTTP."""
    return uvicorn.Config(
        "app.main:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        timeout_graceful_shutdown=settings.drain_timeout,
        log_config=_log_config(settings.log_level),
        log_level=settings.log_level,
        access_log=False,
        lifespan="on",
        server_header=False,
        ws="none",
    )


def _log_config(level: str) -> dict[str, Any]:
    config: dict[str, Any] = deepcopy(LOGGING_CONFIG)
    config["loggers"]["app"] = {"handlers": ["default"], "level": level.upper(), "propagate": False}
    return config


if __name__ == "__main__":
    sys.exit(main())
