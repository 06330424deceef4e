"""`python -m tests.performance.code_pictures PHOTOGRAPHS`: CPU of a picture of a code that is new, known to
its client, or kept by nginx."""

import argparse
import asyncio
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

from app.model.default_model import default_model_dir
from tests.deployment.test_nginx import balancer
from tests.performance.bench.report import markdown_table
from tests.performance.client import Connection
from tests.performance.machine import describe_machine
from tests.performance.service import running

BUDGETS = (94, 255)
CODES = 256
CONNECTIONS = 8
ROUNDS = 5


def cpu_seconds(pid: int) -> float:
    """What the threads of a process have spent, to the nanosecond: /proc/<pid>/task/*/schedstat."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def codes_of(client: httpx.Client, photographs: Sequence[Path], budget: int) -> list[str]:
    """A code of each photograph."""
    found = []
    for photograph in photographs:
        answer = client.post(f"/compress?bytes={budget}", files={"image": photograph.read_bytes()})
        found += answer.raise_for_status().json()["items"][0]["codes"]
    return found


async def ask(port: int, requests: Sequence[bytes], status: int) -> list[float]:
    """Send requests over CONNECTIONS connections; seconds of each."""
    waiting, seconds = iter(requests), []

    async def one() -> None:
        connection = Connection(port)
        for request in waiting:
            answer = await connection.send(request)
            assert answer.status == status, answer
            seconds.append(answer.seconds)
        connection.close()

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    return seconds


def get(path: str, header: str = "") -> bytes:
    """The bytes of a GET."""
    return f"GET {path} HTTP/1.1\r\nHost: cars\r\n{header}\r\n".encode()


def measured(port: int, pids: Sequence[int], requests: Sequence[bytes], status: int = 200) -> list[float]:
    """CPU milliseconds a request of each process."""
    before = [cpu_seconds(pid) for pid in pids]
    asyncio.run(ask(port, requests, status))
    return [
        1000 * (cpu_seconds(pid) - spent) / len(requests) for pid, spent in zip(pids, before, strict=True)
    ]


def rounds(given: argparse.Namespace, folder: Path) -> Iterator[tuple[str, list[float]]]:
    """What was asked, and the CPU milliseconds of service and nginx, round after round."""
    photographs = sorted(path for path in given.photographs.rglob("*.jpg"))[:CODES]
    with (
        running(default_model_dir(), log_level="warning") as service,
        httpx.Client(base_url=f"http://127.0.0.1:{service.port}", timeout=60) as client,
    ):
        while client.get("/health/ready").status_code != 200:
            time.sleep(0.1)
        codes = {budget: codes_of(client, photographs, budget) for budget in BUDGETS}
        tag = client.get(f"/c/{codes[94][0]}.webp").headers["ETag"]
        sizes = [len(client.get(f"/c/{code}.webp").content) for code in codes[255]]
        print(f"mean bytes of a WebP of 255 bytes: {statistics.mean(sizes):.0f}")
        with balancer(folder, client) as cache:
            both = service.process.pid, int((folder / "nginx.pid").read_text())
            front = cache.base_url.port or 0
            for number in range(ROUNDS):
                for budget in BUDGETS:
                    paths = [f"/c/{code}.webp" for code in codes[budget]]
                    yield (
                        f"WebP, {budget} bytes",
                        measured(service.port, both, [get(path) for path in paths]),
                    )
                    large = [get(f"{path}?size=384") for path in paths]
                    yield f"WebP of 384 pixels, {budget} bytes", measured(service.port, both, large)
                known = [get(f"/c/{codes[94][0]}.webp", f"If-None-Match: {tag}\r\n")] * 2000
                yield "304", measured(service.port, both, known, 304)
                cut = [get(f"/c/{code[:-1]}.webp") for code in codes[94]] * 4
                yield "400, a damaged code", measured(service.port, both, cut, 400)
                # Of another size in each round, so that the cache has none of them.
                new = [get(f"/c/{code}.webp?size={97 + number}") for code in codes[94]]
                yield "through nginx, not kept", measured(front, both, new)
                kept = list(itertools.islice(itertools.cycle(new), 8000))
                yield "through nginx, kept", measured(front, both, kept)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photographs", type=Path)
    given = parser.parse_args()
    found: dict[str, list[list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, milliseconds in rounds(given, Path(folder)):
            found.setdefault(name, []).append(milliseconds)
    rows = []
    for name, each in found.items():
        cells = [f"{statistics.median(column):.3f} ({min(column):.3f})" for column in zip(*each, strict=True)]
        rows.append([name, *cells])
    print("\n".join(f"{name}: {value}" for name, value in describe_machine().items()))
    print(markdown_table(["CPU ms a request, median (least) of rounds", "service", "nginx"], rows))


if __name__ == "__main__":
    main()
