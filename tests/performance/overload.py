"""Ten times what the service can do, for half a minute: `python -m tests.performance.overload [folder]`.

First a closed loop finds the capacity, then requests arrive ten times as fast, whatever becomes of them (open
loop, over a bounded number of connections), then the closed loop again. Prints a table.
"""

import asyncio
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from app.model.default_model import default_model_dir
from tests.performance.client import Answer, Connection, form, percentile, picture, request
from tests.performance.service import Running, running

PICTURES = 16
BODY, MEDIA_TYPE = form([picture(seed=seed) for seed in range(PICTURES)])
REQUEST = request("POST", "/encode", BODY, MEDIA_TYPE)
PROBES = ("/health/live", "/health/ready", "/metrics")
CLOSED, OPEN = 8, 500
"""Connections of the closed loop, and the most of the open one."""
TIMES = 10


@dataclass
class Seen:
    """Answers by status, and what could not be offered because every connection was busy."""

    answers: list[Answer] = field(default_factory=list)
    broken: int = 0

    def row(self, name: str, seconds: float) -> str:
        """A row of the table."""
        statuses = Counter(answer.status for answer in self.answers)
        good, refused = (
            [answer.seconds * 1000 for answer in self.answers if answer.status == status]
            for status in (200, 429)
        )
        return (
            f"| {name} | {(len(self.answers) + self.broken) / seconds:.1f} | {len(good) / seconds:.1f}"
            f" | {statuses[429]} | {len(self.answers) - statuses[200] - statuses[429]} | {self.broken}"
            f" | {percentile(good, 0.5):.0f} | {percentile(good, 0.99):.0f}"
            f" | {percentile(refused, 0.99):.0f} |"
        )


async def closed_loop(port: int, seconds: float) -> Seen:
    """CLOSED clients that each wait for their answer before they ask again."""
    seen, end = Seen(), time.perf_counter() + seconds

    async def client() -> None:
        connection = Connection(port)
        while time.perf_counter() < end:
            seen.answers.append(await connection.send(REQUEST))
        connection.close()

    await asyncio.gather(*(client() for _ in range(CLOSED)))
    return seen


async def open_loop(port: int, seconds: float, rate: float) -> Seen:
    """Requests at a rate, on whichever connection is free; a refusal is an answer like any other."""
    seen, free, tasks = Seen(), [Connection(port) for _ in range(OPEN)], set()

    async def one(connection: Connection) -> None:
        try:
            seen.answers.append(await connection.send(REQUEST))
        except (OSError, EOFError):
            seen.broken += 1
            connection.close()
        free.append(connection)

    began = time.perf_counter()
    sent = 0
    while (now := time.perf_counter() - began) < seconds:
        while sent < now * rate:
            sent += 1
            if free:
                task = asyncio.ensure_future(one(free.pop()))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        await asyncio.sleep(0.005)
    await asyncio.gather(*tasks)
    for connection in free:
        connection.close()
    return seen


async def probe(port: int, storm: "asyncio.Task[Seen]") -> dict[str, list[float]]:
    """Ask every probe four times a second while the storm lasts; gives their milliseconds."""
    times: dict[str, list[float]] = {path: [] for path in PROBES}
    connection = Connection(port)
    while not storm.done():
        for path in PROBES:
            answer = await connection.send(request("GET", path))
            assert answer.status == 200, (path, answer)
            times[path].append(answer.seconds * 1000)
        await asyncio.sleep(0.25)
    connection.close()
    return times


async def overload(service: Running, seconds: float) -> list[str]:
    """Load the service; gives the lines of the report."""
    await closed_loop(service.port, 2)  # warm
    before = service.usage()
    calm = await closed_loop(service.port, 10)
    capacity = len(calm.answers) / 10
    storm = asyncio.ensure_future(open_loop(service.port, seconds, TIMES * capacity))
    probes = await probe(service.port, storm)
    during = service.usage()
    after_storm = await closed_loop(service.port, 10)
    await asyncio.sleep(6)  # kept connections are closed after five
    after = service.usage()
    lines = [
        f"requests are /encode of {PICTURES} pictures each; per second where nothing else is said",
        "| | offered | accepted | 429 in all | other in all | broken | p50 ms | p99 ms | p99 of 429 ms |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        calm.row("before", 10),
        (await storm).row(f"storm of {seconds:g} s", seconds),
        after_storm.row("after", 10),
        *(
            f"{path}: {len(times)} times, p50 {percentile(times, 0.5):.1f} ms, largest {max(times):.1f} ms"
            for path, times in probes.items()
        ),
    ]
    lines += [f"{name}: {usage}" for name, usage in (("before", before), ("storm", during), ("after", after))]
    return lines


def main() -> None:
    """Overload the service on the model folder that was named, or on the shipped one."""
    folder = Path(sys.argv[1]).absolute() if len(sys.argv) > 1 else default_model_dir()
    with running(folder, log_level="warning") as service:
        for line in asyncio.run(overload(service, 30)):
            print(line)


if __name__ == "__main__":
    main()
