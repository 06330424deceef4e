"""`python -m tests.performance.cache_hits`: hit ratios of a cache of pictures under a Zipf trace, by
simulation, and the cores that so many pictures a second then take."""

import argparse
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.performance.bench.report import markdown_table

BLOCK = 4096
"""Bytes that a file takes on disk or in a tmpfs at least, and by which it grows."""
RECORD = 700
"""Bytes of address, headers and structures that nginx writes before each kept answer."""

PICTURES = 1_000_000
ALPHAS = (0.6, 0.8, 1.0, 1.2)
SHARES = (0.01, 0.03, 0.1, 0.3)
"""Sizes of the cache, as parts of what all pictures take."""
WARMING, MEASURED = 2_000_000, 1_000_000
"""Requests before any is counted, and those that are."""
RATES = (10_000, 100_000, 1_000_000)
UTILISATION = 0.6
"""Part of its time that a core may be busy, so that queues stay short."""
REPLICA_CORES = 8


@dataclass(frozen=True)
class Costs:
    """CPU milliseconds: of the cache for a hit and for a miss it passes on, and of the service for a miss."""

    hit: float
    passed_on: float
    cold: float

    def cores(self, per_second: float, hit_ratio: float) -> tuple[float, float]:
        """Cores of the cache and of the service for so many pictures a second, each busy for UTILISATION."""
        misses = 1 - hit_ratio
        cache = per_second * (hit_ratio * self.hit + misses * self.passed_on)
        return cache / 1000 / UTILISATION, per_second * misses * self.cold / 1000 / UTILISATION


def zipf(count: int, alpha: float, pictures: int, seed: int) -> NDArray[np.int64]:
    """(count,) pictures asked for one after another, where the k-th most liked has a chance of k^-alpha."""
    chances = np.arange(1, pictures + 1, dtype=np.float64) ** -alpha
    bounds = np.cumsum(chances / chances.sum())
    drawn = np.random.default_rng(seed).random(count)
    return np.minimum(np.searchsorted(bounds, drawn), pictures - 1)


def file_bytes(pictures: int, mean: float, seed: int) -> NDArray[np.int64]:
    """(pictures,) bytes that each takes in the cache: files of such a mean, their logarithms spread by a
    quarter, in whole blocks."""
    sizes = np.random.default_rng(seed).lognormal(math.log(mean) - 0.25**2 / 2, 0.25, pictures)
    return np.ceil((sizes + RECORD) / BLOCK).astype(np.int64) * BLOCK


def hit_ratio(trace: Sequence[int], sizes: Sequence[int], capacity: int, warming: int) -> float:
    """Hits among the requests of a trace behind the first `warming`, in a cache of so many bytes from which
    goes what was not asked for the longest."""
    kept: OrderedDict[int, None] = OrderedDict()
    held = hits = 0
    for number, picture in enumerate(trace):
        if picture in kept:
            kept.move_to_end(picture)
            hits += number >= warming
            continue
        kept[picture] = None
        held += sizes[picture]
        while held > capacity:
            held -= sizes[kept.popitem(last=False)[0]]
    return hits / (len(trace) - warming)


def simulate(
    mean_bytes: float, alphas: Sequence[float] = ALPHAS, shares: Sequence[float] = SHARES
) -> dict[float, list[float]]:
    """Alpha -> the hit ratio in a cache of each share of the bytes of all pictures."""
    sizes = file_bytes(PICTURES, mean_bytes, seed=1)
    whole, each = int(sizes.sum()), sizes.tolist()
    found = {}
    for alpha in alphas:
        trace = zipf(WARMING + MEASURED, alpha, PICTURES, seed=2).tolist()
        found[alpha] = [hit_ratio(trace, each, int(share * whole), WARMING) for share in shares]
    return found


def report(mean_bytes: float, costs: Costs) -> str:
    """Both tables in Markdown."""
    ratios = simulate(mean_bytes)
    whole = int(file_bytes(PICTURES, mean_bytes, seed=1).sum())
    heads = [f"{share:.0%} of them, {share * whole / 1e6:,.0f} MB" for share in SHARES]
    rows = [[f"{alpha}", *(f"{ratio:.1%}" for ratio in each)] for alpha, each in ratios.items()]
    hits = markdown_table(["alpha", *heads], rows)
    chosen = {"no cache": 0.0, "half": 0.5, "80 %": 0.8, "95 %": 0.95, "99 %": 0.99}
    rows = []
    for name, ratio in chosen.items():
        cells = []
        for rate in RATES:
            cache, service = costs.cores(rate, ratio) if ratio else (0.0, costs.cores(rate, 0)[1])
            cells.append(f"{cache:,.1f} + {service:,.0f} ({math.ceil(service / REPLICA_CORES):,})")
        rows.append([name, *cells])
    return f"{hits}\n\n{markdown_table(['hits', *(f'{rate:,}/s' for rate in RATES)], rows)}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bytes", type=float, default=1700, help="mean bytes of a picture's file")
    parser.add_argument("--hit", type=float, required=True, help="CPU ms of the cache for a hit")
    parser.add_argument("--passed-on", type=float, required=True, help="CPU ms of the cache for a miss")
    parser.add_argument("--cold", type=float, required=True, help="CPU ms of the service for a miss")
    given = parser.parse_args()
    print(report(given.bytes, Costs(given.hit, given.passed_on, given.cold)))
