"""A service in a process of its own, for load from outside, and what the system says of it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Usage:
    """What a process holds now."""

    resident_mib: float
    threads: int
    descriptors: int


@dataclass(frozen=True)
class Running:
    """A service that answers."""

    port: int
    process: subprocess.Popen[bytes]

    def usage(self) -> Usage:
        """Memory, threads and open files of the process."""
        proc = Path("/proc", str(self.process.pid))
        status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        return Usage(
            resident_mib=int(status["VmRSS"].split()[0]) / 1024,
            threads=int(status["Threads"]),
            descriptors=len(list((proc / "fd").iterdir())),
        )


@contextmanager
def running(model_dir: Path, **settings: object) -> Iterator[Running]:
    """Start `python -m app` on a free port and end it with SIGTERM; it has to exit with 0."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CAR_VAE_")}
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    wanted = {"model_dir": model_dir, "device": "cpu", "port": port, **settings}
    environment = clean | {f"CAR_VAE_{name.upper()}": str(value) for name, value in wanted.items()}
    with subprocess.Popen([sys.executable, "-m", "app"], cwd=ROOT, env=environment) as process:
        try:
            while True:
                assert process.poll() is None, "the service does not start"
                with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.05)
            yield Running(port, process)
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()
