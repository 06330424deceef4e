"""Programs of others, run as processes: started, waited for and ended by the tests that need them."""

import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

START_SECONDS = 60


def free_port() -> int:
    """A TCP port that nothing listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def program(command: Sequence[str], url: str, log: Path) -> Iterator[httpx.Client]:
    """Run a program until the block ends; begins when it answers at `url`, whatever it says."""
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            with httpx.Client(base_url=url, timeout=60) as client:
                _wait_until_it_answers(client, process, log)
                yield client
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait_until_it_answers(client: httpx.Client, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            client.get("/")
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"it does not answer:\n{log.read_text()}")
