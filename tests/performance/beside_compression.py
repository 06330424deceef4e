"""What clients that compress do to one that encodes: `python -m tests.performance.beside_compression`.

/encode is asked at a steady low rate, in turn alone, beside one program of niceness NICENESS that has nothing
to do with the service, and beside CLIENTS clients that each send one picture to /compress after another. All
kinds of turn see the same machine, so that what others do there falls on all; only the half of the rounds
counts in which a hypervisor, if there is one, took the least time away. Prints a table; a number of workers
may be named.
"""

import asyncio
import math
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from app.inference.packer_process import NICENESS
from app.model.default_model import default_model_dir
from tests.performance.client import Answer, Connection, form, percentile, picture, request
from tests.performance.service import Running, running

CLIENTS = 16
RATE = 20.0
"""Requests for /encode a second, apart from each other by a random time."""
TURN, ROUNDS = 4.0, 30
"""Seconds of a turn, and how often each kind comes."""
SETTLING = 1.5
"""Seconds at the start of a turn that do not count: clients come or finish."""
FILES = [picture(seed=seed) for seed in range(8)]
ENCODE, COMPRESS = (
    [request("POST", path, *form([file])) for file in FILES] for path in ("/encode", "/compress")
)


async def encode(port: int, seconds: float, order: random.Random) -> list[Answer]:
    """Ask for /encode at RATE, however long the answers take."""
    answers: list[Answer] = []
    free: list[Connection] = []
    tasks = set()

    async def one(connection: Connection) -> None:
        answers.append(await connection.send(order.choice(ENCODE)))
        free.append(connection)

    began, due = time.perf_counter(), 0.0
    while (due := due + order.expovariate(RATE)) < seconds:
        await asyncio.sleep(max(0.0, began + due - time.perf_counter()))
        task = asyncio.ensure_future(one(free.pop() if free else Connection(port)))
        tasks.add(task)
    await asyncio.gather(*tasks)
    for connection in free:
        connection.close()
    return answers


async def compress(port: int, seconds: float) -> list[Answer]:
    """CLIENTS clients that each wait for their code before they ask for the next."""
    answers: list[Answer] = []
    end = time.perf_counter() + seconds

    async def client(number: int) -> None:
        connection = Connection(port)
        while time.perf_counter() < end:
            answers.append(await connection.send(COMPRESS[number % len(COMPRESS)]))
        connection.close()

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    return answers


@contextmanager
def busy_core() -> Iterator[None]:
    """A program that keeps one core busy and stands back as far as the process that writes codes."""
    with subprocess.Popen(["nice", "-n", str(NICENESS), sys.executable, "-c", "while True: pass"]) as program:
        yield
        program.kill()


async def turns(service: Running) -> list[str]:
    """Take turns; gives the lines of the report."""
    order = random.Random(1)
    rounds: list[tuple[int, list[list[float]]]] = []
    codes: list[Answer] = []
    await compress(service.port, 2)  # so that the process that packs is there
    for _ in range(ROUNDS):
        stolen = _stolen()
        await asyncio.sleep(SETTLING)
        alone = await encode(service.port, TURN, order)
        with busy_core():
            await asyncio.sleep(SETTLING)
            foreign = await encode(service.port, TURN, order)
        crowd = asyncio.ensure_future(compress(service.port, SETTLING + TURN))
        await asyncio.sleep(SETTLING)
        beside = await encode(service.port, TURN, order)
        codes += await crowd
        rounds.append((_stolen() - stolen, [_milliseconds(turn) for turn in (alone, foreign, beside)]))
    quiet = sorted(rounds, key=lambda each: each[0])[: math.ceil(ROUNDS / 2)]
    alone_ms, foreign_ms, beside_ms = (
        list(kind) for kind in zip(*(times for _, times in quiet), strict=True)
    )
    stolen_share = quiet[-1][0] / (3 * (SETTLING + TURN))
    return [
        f"/encode {RATE:g} times a second, {ROUNDS} rounds with a turn of {TURN:g} s of each kind;"
        f" of the quieter half, in which at most {stolen_share:.1f} % of a core was taken away:",
        "| | requests | p50 ms | p99 ms | p99 ms of a turn: least, median, most | p99 over that alone |",
        "| --- | --- | --- | --- | --- | --- |",
        _row("alone", alone_ms, alone_ms),
        _row(f"beside one busy program of niceness {NICENESS}", foreign_ms, alone_ms),
        _row(f"beside {CLIENTS} clients of /compress", beside_ms, alone_ms),
        _codes(codes),
    ]


def _stolen() -> int:
    """Hundredths of a second that a hypervisor has given to others, of all cores together (proc(5))."""
    return int(Path("/proc/stat").read_text().split()[8])


def _milliseconds(answers: list[Answer]) -> list[float]:
    assert {answer.status for answer in answers} == {200}
    return [answer.seconds * 1000 for answer in answers]


def _row(name: str, turns: list[list[float]], alone: list[list[float]]) -> str:
    together, each = list(chain(*turns)), [percentile(turn, 0.99) for turn in turns]
    p99 = percentile(together, 0.99)
    pairs = [one / percentile(two, 0.99) for one, two in zip(each, alone, strict=True)]
    ratio = p99 / percentile(list(chain(*alone)), 0.99)
    return (
        f"| {name} | {len(together)} | {percentile(together, 0.5):.1f} | {p99:.1f}"
        f" | {min(each):.1f}, {percentile(each, 0.5):.1f}, {max(each):.1f}"
        f" | {ratio:.2f}; median of pairs of turns {percentile(pairs, 0.5):.2f} |"
    )


def _codes(answers: list[Answer]) -> str:
    statuses = Counter(answer.status for answer in answers)
    seconds = [answer.seconds * 1000 for answer in answers if answer.status == 200]
    return (
        f"codes: {statuses[200] / ROUNDS / (SETTLING + TURN):.1f} a second,"
        f" {len(answers) - statuses[200]} refused;"
        f" p50 {percentile(seconds, 0.5):.0f} ms, p99 {percentile(seconds, 0.99):.0f} ms"
    )


def main() -> None:
    """Measure the shipped model's service with as many workers as were named, or one."""
    workers = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    settings = {"workers": workers, "log_level": "warning", "keep_alive_timeout": 60}
    with running(default_model_dir(), **settings) as service:
        print(f"{workers} workers; load average before: {os.getloadavg()[0]:.1f}")
        for line in asyncio.run(turns(service)):
            print(line)
        print(f"load average after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
