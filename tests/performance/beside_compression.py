"""What clients that compress do to one that encodes: `python -m tests.performance.beside_compression`.

/encode is asked at a steady low rate, in turn alone and beside CLIENTS clients that each send one picture to
/compress after another. Both kinds of turn see the same machine, so that what others do there falls on both;
only the half of the pairs of turns counts in which a hypervisor, if there is one, took the least time away.
Prints a table; a number of workers may be named.
"""

import asyncio
import math
import os
import random
import sys
import time
from collections import Counter
from itertools import chain
from pathlib import Path

from app.model.default_model import default_model_dir
from tests.performance.client import Answer, Connection, form, percentile, picture, request
from tests.performance.service import Running, running

CLIENTS = 16
RATE = 20.0
"""Requests for /encode a second, apart from each other by a random time."""
TURN, TURNS = 4.0, 40
"""Seconds of a turn, and turns of each kind."""
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


async def turns(service: Running) -> list[str]:
    """Take turns; gives the lines of the report."""
    order = random.Random(1)
    pairs: list[tuple[int, list[float], list[float]]] = []
    codes: list[Answer] = []
    await compress(service.port, 2)  # so that the process that packs is there
    for _ in range(TURNS):
        await asyncio.sleep(SETTLING)
        stolen = _stolen()
        alone = _milliseconds(await encode(service.port, TURN, order))
        crowd = asyncio.ensure_future(compress(service.port, SETTLING + TURN))
        await asyncio.sleep(SETTLING)
        beside = _milliseconds(await encode(service.port, TURN, order))
        pairs.append((_stolen() - stolen, alone, beside))
        codes += await crowd
    pairs = sorted(pairs, key=lambda pair: pair[0])[: math.ceil(TURNS / 2)]
    quiet = [pair[1] for pair in pairs], [pair[2] for pair in pairs]
    return [
        f"/encode {RATE:g} times a second, {TURNS} turns of {TURN:g} s of each kind; of the quieter half,"
        f" in which at most {pairs[-1][0] / (2 * TURN + SETTLING):.1f} % of a core was taken away:",
        "| | requests | p50 ms | p99 ms | p99 ms of a turn: least, median, most |",
        "| --- | --- | --- | --- | --- |",
        _row("alone", quiet[0]),
        _row(f"beside {CLIENTS} clients of /compress", quiet[1]),
        _ratio(*quiet),
        _codes(codes),
    ]


def _stolen() -> int:
    """Hundredths of a second that a hypervisor has given to others, of all cores together (proc(5))."""
    return int(Path("/proc/stat").read_text().split()[8])


def _milliseconds(answers: list[Answer]) -> list[float]:
    assert {answer.status for answer in answers} == {200}
    return [answer.seconds * 1000 for answer in answers]


def _row(name: str, turns: list[list[float]]) -> str:
    together, each = list(chain(*turns)), [percentile(turn, 0.99) for turn in turns]
    return (
        f"| {name} | {len(together)} | {percentile(together, 0.5):.1f} | {percentile(together, 0.99):.1f}"
        f" | {min(each):.1f}, {percentile(each, 0.5):.1f}, {max(each):.1f} |"
    )


def _ratio(alone: list[list[float]], beside: list[list[float]]) -> str:
    pooled = percentile(list(chain(*beside)), 0.99) / percentile(list(chain(*alone)), 0.99)
    pairs = [percentile(two, 0.99) / percentile(one, 0.99) for one, two in zip(alone, beside, strict=True)]
    low, middle, high = (percentile(pairs, share) for share in (0.25, 0.5, 0.75))
    between = f"{low:.2f}, {middle:.2f}, {high:.2f}"
    return f"p99 beside over alone: {pooled:.2f}; of the pairs of turns, quartiles: {between}"


def _codes(answers: list[Answer]) -> str:
    statuses = Counter(answer.status for answer in answers)
    seconds = [answer.seconds * 1000 for answer in answers if answer.status == 200]
    return (
        f"codes: {statuses[200] / TURNS / (SETTLING + TURN):.1f} a second,"
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
