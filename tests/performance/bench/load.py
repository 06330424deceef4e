"""One workload against one server: wrk in a closed loop, and what the server's processes spent meanwhile."""

import json
import math
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

DRIVER = Path(__file__).with_name("drive.lua")
MARK = "RESULT "
ANSWERS_PER_CONNECTION = 20
MOST_TIMES_LONGER = 4


class NothingAnswered(RuntimeError):
    """There is nothing to divide the CPU time by."""


@dataclass(frozen=True)
class Load:
    """What wrk saw.

    Attributes:
        answered: requests answered with a status below 400.
        failed: requests answered otherwise, and errors and timeouts of connections.
        seconds: the length of the measurement.
        p50_ms, p99_ms: latency of the answers.
    """

    answered: int
    failed: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        """Requests answered per second."""
        return self.answered / self.seconds


@dataclass(frozen=True)
class Measurement:
    """A load, what the server's process tree spent on it (user and system CPU), and its memory after it."""

    load: Load
    cpu_seconds: float
    memory_bytes: int

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds per request answered."""
        return 1000 * self.cpu_seconds / self.load.answered


def parse_wrk(output: str) -> Load:
    """The line of JSON that drive.lua prints.

    Raises:
        ValueError: there is none.
    """
    line = next((line for line in output.splitlines() if line.startswith(MARK)), None)
    if line is None:
        raise ValueError(f"wrk printed no result: {output[-500:]}")
    values = json.loads(line.removeprefix(MARK))
    refused = values["status_errors"]
    lost = sum(values[name] for name in ("connect_errors", "read_errors", "write_errors", "timeouts"))
    return Load(
        answered=values["requests"] - refused,
        failed=refused + lost,
        seconds=values["duration_us"] / 1e6,
        p50_ms=values["p50_us"] / 1000,
        p99_ms=values["p99_us"] / 1000,
    )


def drive(url: str, requests: Path, connections: int, seconds: int) -> Load:
    """Keep `connections` requests in flight for `seconds` seconds.

    Args:
        requests: a folder that drive.lua understands.

    Raises:
        RuntimeError: wrk failed.
    """
    count = sum(entry.name.isdecimal() for entry in requests.iterdir())
    command = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"]
    result = subprocess.run(
        [*command, "--timeout", "30s", "--script", str(DRIVER), url, "--", str(requests), str(count)],
        capture_output=True,
        text=True,
    )
    if result.returncode != 0:
        raise RuntimeError(f"wrk: {result.stderr.strip() or result.stdout.strip()}")
    return parse_wrk(result.stdout)


def long_enough(warm_up: Load, connections: int, seconds: int) -> int:
    """Seconds to measure for: `seconds`, or longer where requests are slow.

    What is in flight at the end has cost CPU time and is not answered. ANSWERS_PER_CONNECTION keeps that to a
    few hundredths of the account, as far as MOST_TIMES_LONGER allows.
    """
    rate = max(warm_up.per_second, 1.0)
    wanted = math.ceil(ANSWERS_PER_CONNECTION * connections / rate)
    return max(seconds, min(wanted, MOST_TIMES_LONGER * seconds))


def measure(
    url: str,
    requests: Path,
    connections: int,
    seconds: int,
    cpu_seconds: Callable[[], float],
    memory_bytes: Callable[[], int],
) -> Measurement:
    """Drive a load; CPU time is read before and after it, when wrk itself does not run, and memory after it.

    Raises:
        NothingAnswered.
    """
    before = cpu_seconds()
    load = drive(url, requests, connections, seconds)
    if not load.answered:
        raise NothingAnswered(f"no request was answered in {load.seconds:.0f} s, {load.failed} failed")
    return Measurement(load, cpu_seconds() - before, memory_bytes())
