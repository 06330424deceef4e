"""Tracing by OpenTelemetry: the spans of a request and of the batches it shares, and where they are sent.

Imported only where CAR_VAE_TRACING is on: all of it needs the extra `otel`. FastAPI makes the span of the
request itself and continues the caller's trace; the stages below it are told by app.timings.Trace.

Many requests share a batch. As OpenTelemetry recommends for batches (specification, "Links between spans")
its run is one span with a link to each of them. It has a parent, too: the first of them, since a span without
one would be sampled apart from the requests and be in no caller's trace. The span of each request's inference
has a link to the run, so that every trace leads to it.
"""

import asyncio
import os
import threading
import time
from collections.abc import Sequence
from importlib.metadata import entry_points

from fastapi.telemetry import TelemetryConfig

from app import version
from app.errors import TracingUnavailable
from app.server.asgi import Scope, route_path
from app.server.middleware import PROBES
from app.timings import Trace

try:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
    from opentelemetry.trace import (
        Link,
        Span,
        SpanContext,
        SpanKind,
        StatusCode,
        Tracer,
        format_trace_id,
        get_current_span,
        set_span_in_context,
    )
except ImportError as missing:
    raise TracingUnavailable("CAR_VAE_TRACING needs the extra otel: pip install 'car-vae[otel]'") from missing

SERVICE = "car-vae"
FLUSH_SECONDS = 3.0
"""How long the end waits for the last spans to be taken by a collector, which may not answer."""
EXPORTERS = "opentelemetry_traces_exporter"
"""Entry points under which packages offer exporters."""


class Tracing:
    """The tracer of one app, set up by the variables OTEL_* as OpenTelemetry documents them."""

    def __init__(self) -> None:
        """Find the exporters; nothing is sent before `start`.

        Raises:
            TracingUnavailable: the variables ask for what is not there.
        """
        try:
            self._exporters = _exporters()
            self.provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        except (ValueError, TypeError) as error:
            raise TracingUnavailable(f"a variable OTEL_* has no valid value: {error}") from error
        self._tracer = self.provider.get_tracer(SERVICE, version())

    def fastapi_options(self) -> TelemetryConfig:
        """FastAPI's parameter `telemetry`: one span for each request but those of probes."""
        return {
            "tracing": True,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
            "tracer_provider": self.provider,
            "exclude": _is_probe,
        }

    def start(self) -> None:
        """Begin to send spans, from a thread; those that a collector does not take in time are dropped."""
        for exporter in self._exporters:
            self.provider.add_span_processor(BatchSpanProcessor(exporter))

    async def close(self) -> None:
        """Send what is left, but do not wait for longer than FLUSH_SECONDS."""
        sender = threading.Thread(target=self.provider.shutdown, name="last-spans", daemon=True)
        sender.start()
        until = time.monotonic() + FLUSH_SECONDS
        while sender.is_alive() and time.monotonic() < until:
            await asyncio.sleep(0.01)

    def trace(self, request_id: str) -> Trace | None:
        """The trace of the request that is being served, or None where the sampler leaves it out."""
        span = get_current_span()
        if not span.is_recording():
            return None
        span.set_attribute("http.response.header.x-request-id", [request_id])
        return _RequestTrace(self._tracer, span)


class _RequestTrace:
    """The span of a request, which gets children."""

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer = tracer
        self._span = span
        self._context = set_span_in_context(span)
        self._epoch = time.time_ns() - time.monotonic_ns()
        self.id = format_trace_id(span.get_span_context().trace_id)

    def stage(
        self,
        name: str,
        started: float,
        ended: float,
        error: BaseException | None,
        runs: Sequence[object] = (),
    ) -> None:
        links = [Link(run) for run in runs if isinstance(run, SpanContext)]
        self._child(name, started, ended, error, links, {})

    def run(
        self,
        name: str,
        started: float,
        ended: float,
        error: BaseException | None,
        rows: int,
        requests: Sequence[Trace],
    ) -> SpanContext:
        links = [
            Link(request._span.get_span_context())
            for request in requests
            if isinstance(request, _RequestTrace)
        ]
        attributes = {"car_vae.batch.rows": rows}
        return self._child(name, started, ended, error, links, attributes)

    def _child(
        self,
        name: str,
        started: float,
        ended: float,
        error: BaseException | None,
        links: Sequence[Link],
        attributes: dict[str, int],
    ) -> SpanContext:
        """A span that is over: none is ever left open, whatever happens to the request."""
        span = self._tracer.start_span(
            name,
            self._context,
            SpanKind.INTERNAL,
            attributes,
            links,
            start_time=self._nanoseconds(started),
        )
        if error is not None:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(StatusCode.ERROR)
        span.end(self._nanoseconds(ended))
        return span.get_span_context()

    def _nanoseconds(self, monotonic: float) -> int:
        return self._epoch + int(monotonic * 1e9)


def _is_probe(scope: Scope) -> bool:
    return route_path(scope) in PROBES


def _resource() -> Resource:
    """What the spans are of, as OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say, else as we call it."""
    resource = Resource({"service.version": version()}).merge(Resource.create())
    if str(resource.attributes["service.name"]).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": SERVICE}))
    return resource


def _exporters() -> list[SpanExporter]:
    """Those that OTEL_TRACES_EXPORTER names, OTLP over HTTP unless it is set."""
    names = os.environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    return [_exporter(name.strip()) for name in names.split(",") if name.strip() != "none"]


def _exporter(name: str) -> SpanExporter:
    if name == "otlp":
        protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get(
            "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"
        )
        name = "otlp_proto_http" if protocol == "http/protobuf" else f"otlp_proto_{protocol}"
    found = next(iter(entry_points(group=EXPORTERS, name=name)), None)
    if found is None:
        there = ", ".join(sorted({point.name for point in entry_points(group=EXPORTERS)}))
        raise TracingUnavailable(f"OTEL_TRACES_EXPORTER: there is no {name!r} here, but {there}")
    exporter: SpanExporter = found.load()()
    return exporter
