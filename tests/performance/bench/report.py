"""Measurements -> medians with their spread, ratios within each round, as Markdown and JSON."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from tests.performance.bench.load import Measurement
from tests.performance.bench.processes import Running

MIB = 2**20


@dataclass(frozen=True)
class Sample:
    """One server under one load in one round."""

    server: str
    workload: str
    connections: int
    round: int
    cpu_ms: float
    per_second: float
    p50_ms: float
    p99_ms: float
    memory_mb: float
    failed: int

    @classmethod
    def of(cls, measured: Measurement, server: str, workload: str, connections: int, round_: int) -> Self:
        """A measurement in the units of the report."""
        load = measured.load
        return cls(
            server=server,
            workload=workload,
            connections=connections,
            round=round_,
            cpu_ms=measured.cpu_ms,
            per_second=load.per_second,
            p50_ms=load.p50_ms,
            p99_ms=load.p99_ms,
            memory_mb=measured.memory_bytes / MIB,
            failed=load.failed,
        )


@dataclass(frozen=True)
class Start:
    """One start of a server: seconds until ready, then memory and cores kept busy at rest."""

    server: str
    variant: str
    round: int
    seconds: float
    memory_mb: float
    cores: float

    @classmethod
    def of(cls, running: Running, server: str, variant: str, round_: int) -> Self:
        """A server that runs, in the units of the report."""
        return cls(server, variant, round_, running.start_seconds, running.memory_bytes / MIB, running.cores)


@dataclass(frozen=True)
class Summary:
    """A median and the least and largest value it stands for."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        if self.least == self.most:
            return _figure(self.median)
        return f"{_figure(self.median)} ({_figure(self.least)}-{_figure(self.most)})"


METRICS: Mapping[str, Callable[[Sample], float]] = {
    "CPU ms": lambda sample: sample.cpu_ms,
    "req/s": lambda sample: sample.per_second,
    "p50 ms": lambda sample: sample.p50_ms,
    "p99 ms": lambda sample: sample.p99_ms,
    "memory MB": lambda sample: sample.memory_mb,
}


def _figure(value: float) -> str:
    """Three significant figures, without an exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def summarise(values: Iterable[float]) -> Summary:
    """Raises statistics.StatisticsError where there is no value."""
    found = list(values)
    return Summary(statistics.median(found), min(found, default=0), max(found, default=0))


def ratios(
    samples: Sequence[Sample], ours: str, peer: str, metric: Callable[[Sample], float]
) -> Summary | None:
    """Ours over the peer's, round by round: what slows the machine for a while slows both.

    Args:
        samples: of one workload at one number of connections.

    Returns:
        None where no round has both.
    """
    by_round = {(sample.server, sample.round): metric(sample) for sample in samples}
    found = [
        by_round[ours, number] / value
        for (server, number), value in by_round.items()
        if server == peer and value > 0 and (ours, number) in by_round
    ]
    return summarise(found) if found else None


def cases(samples: Sequence[Sample]) -> dict[tuple[str, int], list[Sample]]:
    """Samples by workload and connections, in the order in which they came."""
    found: dict[tuple[str, int], list[Sample]] = {}
    for sample in samples:
        found.setdefault((sample.workload, sample.connections), []).append(sample)
    return found


def load_table(samples: Sequence[Sample], ours: str, titles: Mapping[str, str]) -> str:
    """A Markdown table for one case: a row for each server, the least CPU first."""
    header = ["server", *METRICS, "our CPU ms / its", "our req/s / its", "our p99 / its", "failed"]
    by_server: dict[str, list[Sample]] = {}
    for sample in samples:
        by_server.setdefault(sample.server, []).append(sample)
    rows = []
    for server in sorted(by_server, key=lambda name: summarise(s.cpu_ms for s in by_server[name]).median):
        own = by_server[server]
        figures = [str(summarise(map(metric, own))) for metric in METRICS.values()]
        compared = [ratios(samples, ours, server, METRICS[name]) for name in ("CPU ms", "req/s", "p99 ms")]
        title = f"**{titles[server]}**" if server == ours else titles[server]
        failed = str(sum(sample.failed for sample in own))
        beside = ["" if ratio is None or server == ours else str(ratio) for ratio in compared]
        rows.append([title, *figures, *beside, failed])
    return markdown_table(header, rows)


def start_table(starts: Sequence[Start], titles: Mapping[str, str]) -> str:
    """A Markdown table of start-up: a row for each server."""
    header = ["server", "settings", "seconds to ready", "memory at rest MB", "CPU at rest %"]
    rows = []
    for server in dict.fromkeys(start.server for start in starts):
        own = [start for start in starts if start.server == server]
        figures = (
            summarise(start.seconds for start in own),
            summarise(start.memory_mb for start in own),
            summarise(100 * start.cores for start in own),
        )
        rows.append([titles[server], own[0].variant, *map(str, figures)])
    return markdown_table(header, rows)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column to the left, the others to the right."""
    rule = ["---", *("---:" for _ in header[1:])]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *rows)) + "\n"


def score(samples: Iterable[Sample]) -> float:
    """How good a variant is: requests/s over CPU ms per request, geometric mean over the workloads."""
    return statistics.geometric_mean(sample.per_second / sample.cpu_ms for sample in samples)
