"""Metrics for Prometheus: requests, stages and batches, of one process or of all workers together."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from app.timings import Timings

MEDIA_TYPE = CONTENT_TYPE_LATEST
OTHER = "other"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
CODE_BYTES = (24, 35, 64, 94, 128, 192, 255, 400)
FINE_SECONDS = (0.0001, 0.00025, 0.0005, *SECONDS)

SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable of prometheus_client itself, read when it is imported: each process keeps its figures
in files of that folder, and each can tell the figures of all, since a scrape reaches only one of them."""


def shared_folder() -> Path | None:
    """The folder that the workers of a service share, where there are several."""
    folder = os.environ.get(SHARED_FOLDER)
    return None if folder is None else Path(folder)


# A second series for each counter and histogram, which nothing here asks for.
disable_created_metrics()  # type: ignore[no-untyped-call]


def buckets(steps: Iterable[float], longest: float) -> tuple[float, ...]:
    """Histogram buckets that reach `longest` and one step beyond it."""
    return (*(step for step in steps if step < longest), longest, 2 * longest)


class Metrics:
    """The metrics of one app, in a registry of its own. Observes requests and batches."""

    def __init__(self, endpoints: frozenset[str], queue_timeout: float, max_batch_rows: int) -> None:
        """Register the metrics.

        Args:
            endpoints: paths that are counted by name; all others are counted as `other`.
            queue_timeout: seconds; the buckets of the histograms reach it.
            max_batch_rows: the buckets of batch sizes end there.
        """
        self.registry = CollectorRegistry()
        self._endpoints = endpoints
        self._requests = Counter(
            "car_vae_requests", "Requests answered.", ("endpoint", "status"), registry=self.registry
        )
        self._request_seconds = Histogram(
            "car_vae_request_seconds",
            "From the first byte of a request to the end of its answer.",
            ("endpoint",),
            buckets=buckets(SECONDS, queue_timeout),
            registry=self.registry,
        )
        self._stage_seconds = Histogram(
            "car_vae_stage_seconds",
            "Seconds of a request in one of its stages.",
            ("stage",),
            buckets=buckets(FINE_SECONDS, queue_timeout),
            registry=self.registry,
        )
        self._batch_rows = Histogram(
            "car_vae_batch_rows",
            "Rows in a run of a graph: encoder, decoder or refiner; or of the packer, which writes codes.",
            ("graph",),
            buckets=(*(size for size in (1, 2, 4, 8, 16, 32) if size < max_batch_rows), max_batch_rows),
            registry=self.registry,
        )
        self._inference_seconds = Histogram(
            "car_vae_inference_seconds",
            "Seconds of such a run.",
            ("graph",),
            buckets=buckets(FINE_SECONDS, queue_timeout),
            registry=self.registry,
        )
        self._skipped_rows = Counter(
            "car_vae_skipped_rows",
            "Rows that left the queue without a run: the client had gone, or they waited too long.",
            ("graph",),
            registry=self.registry,
        )
        self._queue_rows = Gauge(
            "car_vae_queue_rows",
            "Rows that wait for a run.",
            ("graph",),
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        self._info = Gauge(
            "car_vae_info",
            "Always 1; tells what is served.",
            ("model", "provider"),
            multiprocess_mode="livemax",
            registry=self.registry,
        )
        self._precision = Gauge(
            "car_vae_precision",
            "Always 1; tells the precision in which encoder and decoder run.",
            ("graph", "precision"),
            multiprocess_mode="livemax",
            registry=self.registry,
        )
        self._older_open = Gauge(
            "car_vae_older_model_open",
            "Whether an older model, whose codes are read, is in memory: in how many processes.",
            ("model",),
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        self._code_bytes = Histogram(
            "car_vae_code_bytes",
            "Bytes of the codes that were written or read, by the model that they are of.",
            ("way", "model"),
            buckets=CODE_BYTES,
            registry=self.registry,
        )
        shared = shared_folder()
        if shared is None:
            self._exposed_registry = self.registry
            ProcessCollector(registry=self.registry)
        else:
            self._exposed_registry = CollectorRegistry()
            self._exposed_registry.register(_Workers(shared))

    def request(self, path: str, status: int, seconds: float, timings: Timings) -> None:
        """A request to `path` ended with `status` after `seconds`."""
        endpoint = path if path in self._endpoints else OTHER
        self._requests.labels(endpoint, str(status)).inc()
        self._request_seconds.labels(endpoint).observe(seconds)
        for stage, stage_seconds in timings.seconds.items():
            self._stage_seconds.labels(stage).observe(stage_seconds)

    def batch(self, batcher: str, rows: int, run_seconds: float, queued_rows: int) -> None:
        """A batch of `rows` has run, and `queued_rows` wait now."""
        self._batch_rows.labels(batcher).observe(rows)
        self._inference_seconds.labels(batcher).observe(run_seconds)
        self.queued(batcher, queued_rows)

    def queued(self, batcher: str, rows: int) -> None:
        """So many rows wait now."""
        self._queue_rows.labels(batcher).set(rows)

    def skipped(self, batcher: str, rows: int) -> None:
        """Rows left the queue without a run."""
        self._skipped_rows.labels(batcher).inc(rows)

    def codes(self, way: Literal["written", "read"], model: str, lengths: Iterable[int]) -> None:
        """Codes of so many bytes were written or read."""
        of_model = self._code_bytes.labels(way, model)
        for length in lengths:
            of_model.observe(length)

    def serving(self, model: str, provider: str, precisions: Mapping[str, str]) -> None:
        """Tell which model is served, on what, and each graph's precision."""
        self._info.labels(model, provider).set(1)
        for graph, precision in precisions.items():
            self._precision.labels(graph, precision).set(1)

    def older_models(self, opened: Mapping[str, bool]) -> None:
        """Tell which older models there are, and whether each is in memory."""
        for model, is_open in opened.items():
            self._older_open.labels(model).set(is_open)

    def render(self) -> bytes:
        """The metrics in Prometheus' text format, of all processes that share a folder."""
        return generate_latest(self._exposed_registry)


class _Workers(Collector):
    """What all processes with files in a shared folder have counted, and what the live ones of them use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._counted = MultiProcessCollector(None, folder)  # type: ignore[no-untyped-call]

    def collect(self) -> Iterator[Metric]:
        pids = {path.stem.rpartition("_")[2] for path in self._folder.glob("*.db")}
        live = {pid for pid in pids if Path("/proc", pid).exists()}
        for pid in pids - live:
            for path in self._folder.glob(f"gauge_live*_{pid}.db"):
                path.unlink(missing_ok=True)
        yield from self._counted.collect()  # type: ignore[no-untyped-call]
        yield from _used_together(live)


def _used_together(pids: Iterable[str]) -> Iterator[Metric]:
    combine: dict[str, Callable[[Iterable[float]], float]] = {
        "process_resident_memory_bytes": sum,
        "process_cpu_seconds": sum,
        "process_open_fds": sum,
        "process_start_time_seconds": max,  # so that the restart of any of them shows
    }
    processes = [ProcessCollector(pid=partial(str, pid), registry=None) for pid in pids]
    each = [metric for process in processes for metric in process.collect()]
    for name, combined in combine.items():
        same = [metric for metric in each if metric.name == name]
        if same:
            sample = same[0].samples[0]
            same[0].samples = [sample._replace(value=combined(metric.samples[0].value for metric in same))]
            yield same[0]
