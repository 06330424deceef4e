"""`python -m tests.performance.gpu_day.load`: the service on a device, checked, then under load."""

import argparse
import asyncio
import json
import os
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from tests.performance.bench.check import check_server
from tests.performance.bench.inputs import Reference, Workload, WrongAnswer, workloads
from tests.performance.bench.processes import adopt_orphans, tree_cpu_seconds
from tests.performance.bench.servers import OURS, PATIENT
from tests.performance.client import Answer, Connection, percentile, request
from tests.performance.service import running

CONNECTIONS = 32
PICTURE_THREADS = 8
"""At most; with a card the CPU's part is images, which go through these."""
PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}


async def closed_loop(port: int, workload: Workload, seconds: float) -> list[Answer]:
    """CONNECTIONS clients that each wait for their answer before they ask again, for so many seconds."""
    bodies = [
        request("POST", workload.path, exchange.body, workload.content_type)
        for exchange in workload.exchanges
    ]
    answers: list[Answer] = []
    end = time.perf_counter() + seconds

    async def client(number: int) -> None:
        connection = Connection(port)
        while time.perf_counter() < end:
            answers.append(await connection.send(bodies[number % len(bodies)]))
            number += 1
        connection.close()

    await asyncio.gather(*(client(number) for number in range(CONNECTIONS)))
    return answers


def measure(port: int, workload: Workload, seconds: float) -> dict[str, float]:
    """Requests a second, latency in ms and the service's CPU ms a request, after a warm-up.

    Raises:
        WrongAnswer: not every request was answered with 200.
    """
    asyncio.run(closed_loop(port, workload, seconds / 4))
    cpu, began = tree_cpu_seconds(), time.perf_counter()
    answers = asyncio.run(closed_loop(port, workload, seconds))
    took, spent = time.perf_counter() - began, tree_cpu_seconds() - cpu
    refused = [answer.status for answer in answers if answer.status != 200]
    if refused:
        raise WrongAnswer(f"{workload.path}: {len(refused)} of {len(answers)} failed, one with {refused[0]}")
    times = [1000 * answer.seconds for answer in answers]
    return {
        "requests_per_second": len(answers) / took,
        "p50_ms": percentile(times, 0.5),
        "p99_ms": percentile(times, 0.99),
        "cpu_ms": 1000 * spent / len(answers),
    }


def serve(folder: Path, device: str, seconds: float) -> dict[str, object]:
    """Start the service, check every answer against the model on the CPU, measure each workload.

    Raises:
        WrongAnswer: it runs on another provider, or answered something else than the model does.
    """
    adopt_orphans()
    every = [workload for workload in workloads(Reference(folder)) if workload.common]
    settings = {name.removeprefix("CAR_VAE_").lower(): value for name, value in PATIENT.items()}
    threads = max(1, min(PICTURE_THREADS, (os.cpu_count() or 1) // 2))
    with running(folder, device=device, picture_threads=threads, log_level="warning", **settings) as service:
        with urllib.request.urlopen(f"http://127.0.0.1:{service.port}/model") as answer:
            provider = json.load(answer)["provider"]
        if provider != PROVIDERS[device]:
            raise WrongAnswer(f"the service runs on {provider}")
        checked = sum(check_server(OURS, service.port, workload) for workload in every)
        found = {workload.name: measure(service.port, workload, seconds) for workload in every}
    return {"provider": provider, "answers_checked": checked, "workloads": found}


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve, measure, write the figures; 1 where an answer was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.performance.gpu_day.load", description=__doc__)
    parser.add_argument("--model-dir", type=Path, required=True)
    parser.add_argument("--device", choices=["cuda", "cpu"], required=True)
    parser.add_argument("--seconds", type=float, required=True, help="of each measurement")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        figures = serve(options.model_dir.resolve(), options.device, options.seconds)
    except (WrongAnswer, AssertionError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    options.out.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
