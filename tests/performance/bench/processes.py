"""Starts a server and accounts for its whole process tree: CPU seconds and memory, read from /proc."""

import ctypes
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

PR_SET_CHILD_SUBREAPER = 36
"""prctl(2)."""
TICKS = os.sysconf("SC_CLK_TCK")
READY_SECONDS = 120.0
STOP_SECONDS = 15.0
REST_SECONDS = 2.0
SETTLE_STEP = 0.25
IDLE_CORES = 0.08
"""What counts as nothing: two ticks of the clock in a step."""


@dataclass(frozen=True)
class Stat:
    """What /proc/<pid>/stat says of a process: its parent, and CPU seconds with those of ended children."""

    pid: int
    parent: int
    cpu_seconds: float


class ServerFailed(RuntimeError):
    """A server ended or did not become ready; the message ends with what it wrote last."""


def parse_stat(text: str, ticks: int = TICKS) -> Stat:
    """One line of /proc/<pid>/stat (proc_pid_stat(5)); the name in it may hold spaces and parentheses."""
    pid, _, rest = text.partition(" (")
    fields = rest.rpartition(")")[2].split()
    utime, stime, ended_utime, ended_stime = map(int, fields[11:15])
    return Stat(int(pid), int(fields[1]), (utime + stime + ended_utime + ended_stime) / ticks)


def descendants(root: int, stats: Sequence[Stat]) -> list[Stat]:
    """The processes below `root`, which is not among them."""
    children: dict[int, list[Stat]] = {}
    for stat in stats:
        children.setdefault(stat.parent, []).append(stat)
    found, waiting = [], [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += [stat.pid for stat in below]
    return found


def read_tree() -> list[Stat]:
    """Every process below this one. It adopts what a server leaves behind, so nothing escapes the account."""
    stats = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                stats.append(parse_stat((entry / "stat").read_text(errors="replace")))
    return descendants(os.getpid(), stats)


def tree_cpu_seconds() -> float:
    """User and system seconds of every process below this one since it started, ended children included."""
    return sum(stat.cpu_seconds for stat in read_tree())


def tree_memory_bytes() -> int:
    """Proportional set size of every process below this one: shared pages count once in all."""
    total = 0
    for stat in read_tree():
        with suppress(OSError):
            total += parse_pss(Path(f"/proc/{stat.pid}/smaps_rollup").read_text())
    return total


def parse_pss(text: str) -> int:
    """Bytes on the Pss line of /proc/<pid>/smaps_rollup; 0 where there is none, as of a zombie."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == "Pss":
            return int(value.split()[0]) * 1024
    return 0


def adopt_orphans() -> None:
    """Become the parent of processes whose own parent ends (prctl(2)); they stay in the account."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


@dataclass(frozen=True)
class Running:
    """A server that is ready and at rest.

    Attributes:
        start_seconds: from its start until it was ready.
        memory_bytes: of its processes.
        cores: how many of them it keeps busy though nothing is asked of it.
    """

    start_seconds: float
    memory_bytes: int
    cores: float


@contextmanager
def running(
    command: Sequence[str], env: Mapping[str, str], ready_urls: Sequence[str], log: Path
) -> Iterator[Running]:
    """Start a server, wait until each of `ready_urls` answers 200, and in the end stop all its processes.

    Raises:
        ServerFailed.
    """
    adopt_orphans()
    with log.open("w+") as output:
        began = time.monotonic()
        process = subprocess.Popen(
            command, env=env, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            for url in ready_urls:
                _await_ready(process, url, began, output)
            seconds = time.monotonic() - began
            time.sleep(1)  # for what starting threads still do
            before = tree_cpu_seconds()
            time.sleep(REST_SECONDS)
            yield Running(seconds, tree_memory_bytes(), (tree_cpu_seconds() - before) / REST_SECONDS)
        finally:
            _stop(process)


def _await_ready(process: subprocess.Popen[bytes], url: str, began: float, output: IO[str]) -> None:
    while True:
        if process.poll() is not None:
            raise ServerFailed(f"ended with code {process.returncode} before it was ready\n{_tail(output)}")
        with suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
            if answer.status == 200:
                return
        if time.monotonic() - began > READY_SECONDS:
            raise ServerFailed(f"not ready after {READY_SECONDS:.0f} s\n{_tail(output)}")
        time.sleep(0.02)


def settle(resting_cores: float, limit: float) -> None:
    """Wait until the server has done with what its last clients left, at most `limit` seconds."""
    deadline = time.monotonic() + limit
    before = tree_cpu_seconds()
    while time.monotonic() < deadline:
        time.sleep(SETTLE_STEP)
        now = tree_cpu_seconds()
        if (now - before) / SETTLE_STEP <= 1.5 * resting_cores + IDLE_CORES:
            return
        before = now


def _tail(output: IO[str]) -> str:
    output.seek(0)
    return output.read()[-3000:]


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a server as an orchestrator would, then whatever it left."""
    try:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    finally:
        _kill_tree(process)


def _kill_tree(process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    while (left := [stat.pid for stat in read_tree()]) and time.monotonic() < deadline:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            if pid != process.pid:
                with suppress(ChildProcessError):  # it is not our own child, but some grandchild
                    os.waitpid(pid, os.WNOHANG)
        process.poll()
        time.sleep(0.05)
