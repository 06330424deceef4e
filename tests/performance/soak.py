"""Mixed work and mistakes for a while: `python -m tests.performance.soak [seconds] [model folder]`.

Memory, threads and open files are read every half minute, once the load has paused, and have to stay flat.
"""

import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from app.model.default_model import default_model_dir
from tests.images import announced_png
from tests.performance.client import Connection, form, picture, request
from tests.performance.service import Running, Usage, running

CLIENTS = 4
ROUND = 30.0
SETTLE = 6.0
"""Seconds after which kept connections have been closed."""
JSON = "application/json"


@dataclass
class Soak:
    """What has been answered, and what the process held after each round."""

    statuses: Counter[int] = field(default_factory=Counter)
    dropped: int = 0
    usages: list[Usage] = field(default_factory=list)


def requests(latent_dim: int) -> list[bytes]:
    """Every endpoint, batch sizes from 1 to 64, every format in and out, and every kind of mistake."""
    files = [
        picture(kind, edge, edge) for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF") for edge in (90, 640)
    ]
    latents = [[0.1] * latent_dim] * 3
    path = json.dumps({"latents": latents, "steps": 12, "method": "spherical"}).encode()
    good = [
        *(request("POST", "/encode", file) for file in files),
        *(request("POST", "/encode", *form(files[:1] * count)) for count in (2, 3, 7, 16, 33, 64)),
        *(
            request("POST", f"/reconstruct?format={name}", files[0])
            for name in ("png", "jpeg", "webp", "json")
        ),
        request("POST", "/decode", json.dumps({"latents": latents}).encode(), JSON),
        request("POST", "/interpolate?format=gif", path, JSON),
        *(request("GET", f"/sample?count={count}&size=200") for count in (1, 5, 64)),
        *(request("GET", path) for path in ("/", "/model", "/metrics", "/health/ready", "/openapi.json")),
    ]
    bad = [
        request("POST", "/encode", files[0][:500]),
        request("POST", "/encode", announced_png(50_000, 50_000)),
        request("POST", "/encode", *form([files[0], b"text", files[1]])),
        request("POST", "/encode", b"--b\r\nbroken", "multipart/form-data; boundary=b"),
        request("POST", "/decode", b'{"latents": [[1]]}', JSON),
        request("POST", "/decode", b"[" * 100_000, JSON),
        request("POST", "/sample", b'{"count": 1000}', JSON),
        request("GET", "/no/such/path"),
        request("DELETE", "/encode"),
    ]
    return [one for pair in itertools.zip_longest(good, bad) for one in pair if one is not None]


async def client(port: int, todo: list[bytes], offset: int, end: float, soak: Soak) -> None:
    """Send one request after the other; each seventeenth is broken off half way."""
    connection = Connection(port)
    for number in itertools.count(offset):
        if time.monotonic() >= end:
            break
        content = todo[number * 7 % len(todo)]
        if number % 17 == 0:
            half = asyncio.ensure_future(connection.send(content[: len(content) // 2]))
            await asyncio.sleep(0.01)
            half.cancel()
            await asyncio.gather(half, return_exceptions=True)
            connection.close()
            soak.dropped += 1
            continue
        soak.statuses[(await connection.send(content)).status] += 1
    connection.close()


async def soak(service: Running, latent_dim: int, seconds: float) -> Soak:
    """Load the service in rounds, and look at it after each."""
    result, todo = Soak(), requests(latent_dim)
    rounds = max(2, round(seconds / ROUND))
    for _ in range(rounds):
        end = time.monotonic() + seconds / rounds - SETTLE
        await asyncio.gather(
            *(client(service.port, todo, offset * 5, end, result) for offset in range(CLIENTS))
        )
        await asyncio.sleep(SETTLE)
        result.usages.append(service.usage())
    return result


def main() -> None:
    """Soak the service on the model folder that was named, or on the shipped one."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1200.0
    folder = Path(sys.argv[2]).absolute() if len(sys.argv) > 2 else default_model_dir()
    latent_dim = json.loads((folder / "model.json").read_bytes())["latent_dim"]
    with running(folder, log_level="warning") as service:
        result = asyncio.run(soak(service, latent_dim, seconds))
    print(f"answers by status: {dict(sorted(result.statuses.items()))}, broken off: {result.dropped}")
    for number, usage in enumerate(result.usages):
        print(f"after round {number + 1}: {usage}")


if __name__ == "__main__":
    main()
