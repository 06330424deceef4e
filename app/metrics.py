"""What the service measures about itself, for Prometheus."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from app.stages import Stages

MEDIA_TYPE = CONTENT_TYPE_LATEST
OTHER = "other"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
FINE_SECONDS = (0.0001, 0.00025, 0.0005, *SECONDS)

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
            "Rows in a run of the encoder or decoder.",
            ("half",),
            buckets=(*(size for size in (1, 2, 4, 8, 16, 32) if size < max_batch_rows), max_batch_rows),
            registry=self.registry,
        )
        self._inference_seconds = Histogram(
            "car_vae_inference_seconds",
            "Seconds of a run of the encoder or decoder.",
            ("half",),
            buckets=buckets(FINE_SECONDS, queue_timeout),
            registry=self.registry,
        )
        self._skipped_rows = Counter(
            "car_vae_skipped_rows",
            "Rows that left the queue without a run: the client had gone, or they waited too long.",
            ("half",),
            registry=self.registry,
        )
        self._queue_rows = Gauge(
            "car_vae_queue_rows", "Rows that wait for a run.", ("half",), registry=self.registry
        )
        self._info = Gauge(
            "car_vae_info", "Always 1; tells what is served.", ("model", "provider"), registry=self.registry
        )
        # Looking a labelled child up costs as much as counting; each combination is looked up once.
        self._by_request: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._by_stage: dict[str, Histogram] = {}

    def request(self, path: str, status: int, seconds: float, stages: Stages) -> None:
        """A request to `path` ended with `status` after `seconds`."""
        endpoint = path if path in self._endpoints else OTHER
        key = endpoint, status
        if key not in self._by_request:
            self._by_request[key] = (
                self._requests.labels(endpoint, str(status)),
                self._request_seconds.labels(endpoint),
            )
        count, duration = self._by_request[key]
        count.inc()
        duration.observe(seconds)
        for stage, stage_seconds in stages.seconds.items():
            if stage not in self._by_stage:
                self._by_stage[stage] = self._stage_seconds.labels(stage)
            self._by_stage[stage].observe(stage_seconds)

    def batch(
        self, batcher: str, rows: int, run_seconds: float, queue_seconds: list[float], queued_rows: int
    ) -> None:
        """A batch of `rows` has run; `queue_seconds` is counted with the stages of each request."""
        del queue_seconds
        self._batch_rows.labels(batcher).observe(rows)
        self._inference_seconds.labels(batcher).observe(run_seconds)
        self._queue_rows.labels(batcher).set(queued_rows)

    def skipped(self, batcher: str, rows: int) -> None:
        """Rows left the queue without a run."""
        self._skipped_rows.labels(batcher).inc(rows)

    def serving(self, model: str, provider: str) -> None:
        """Tell which model is served, and on what."""
        self._info.labels(model, provider).set(1)

    def render(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)
