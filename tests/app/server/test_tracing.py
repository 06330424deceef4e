"""Traces: the caller's goes on through every stage and the shared batch, whatever becomes of the request."""

import asyncio
import json
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from app import version
from app.errors import TracingUnavailable
from app.main import open_tracing
from app.serve import configuration
from app.server.logging_setup import JsonFormatter, TextFormatter
from app.settings import Settings
from tests.app.api.gate import Gate
from tests.app.api.requests import LATENTS, PNG, check_problem
from tests.app.conftest import Serve, state_behind
from tests.e2e.conftest import ROOT, serving

CALLER = "0af7651916cd43dd8448eb211c80319c"
OTHER_CALLER = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLERS_SPAN = "b7ad6b7169203331"


def traceparent(trace_id: str = CALLER, flags: str = "01") -> dict[str, str]:
    """W3C Trace Context, version 00."""
    return {"traceparent": f"00-{trace_id}-{CALLERS_SPAN}-{flags}"}


@pytest.fixture(autouse=True)
def no_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")


def spans_of(client: httpx.AsyncClient) -> InMemorySpanExporter:
    """Where the spans of a client's service are to be found from now on."""
    found = InMemorySpanExporter()
    state_behind(client).tracing.provider.add_span_processor(SimpleSpanProcessor(found))
    return found


def by_name(spans: Sequence[ReadableSpan]) -> dict[str, ReadableSpan]:
    named = {span.name: span for span in spans}
    assert len(named) == len(spans)
    return named


def trace_id(span: ReadableSpan) -> str:
    assert span.context is not None
    return format_trace_id(span.context.trace_id)


def linked(span: ReadableSpan) -> list[int]:
    return [link.context.span_id for link in span.links]


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def check_ended_within(spans: dict[str, ReadableSpan], outer: str) -> None:
    whole = spans[outer]
    assert whole.start_time is not None
    assert whole.end_time is not None
    for span in spans.values():
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.end_time >= span.start_time >= whole.start_time - 1_000_000, span.name


async def test_the_callers_trace_goes_through_every_stage(serve: Serve) -> None:
    async with serve(tracing=True) as client:
        found = spans_of(client)
        headers = traceparent() | {"Content-Type": "image/png", "X-Request-ID": "of-the-client"}
        answer = await client.post("/reconstruct", content=PNG, headers=headers)
        assert answer.status_code == 200
        spans = by_name(found.get_finished_spans())
    assert set(spans) == {
        "POST /reconstruct",
        "read",
        "decode",
        "encoder queue",
        "encoder inference",
        "encoder run",
        "decoder queue",
        "decoder inference",
        "decoder run",
        "encode",
    }
    assert {trace_id(span) for span in spans.values()} == {CALLER}
    request = spans.pop("POST /reconstruct")
    assert request.kind is SpanKind.SERVER
    assert request.parent is not None
    assert format_span_id(request.parent.span_id) == CALLERS_SPAN
    assert request.attributes is not None
    assert request.attributes["http.route"] == "/reconstruct"
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["http.response.header.x-request-id"] == ("of-the-client",)
    for span in spans.values():
        assert span.parent is not None
        assert span.parent.span_id == id_of(request)
        assert span.status.status_code is StatusCode.UNSET
    for graph in ("encoder", "decoder"):
        assert linked(spans[f"{graph} run"]) == [id_of(request)]
        assert linked(spans[f"{graph} inference"]) == [id_of(spans[f"{graph} run"])]
    check_ended_within(spans | {"": request}, "")


async def test_a_batch_is_one_span_with_links_to_every_request_in_it(serve: Serve) -> None:
    async with serve(tracing=True) as client:
        found = spans_of(client)
        gate = Gate(client, queue_rows=4, batch_rows=4)
        body = {"latents": LATENTS[:1]}
        lone = asyncio.ensure_future(client.post("/decode", json=body))
        await gate.wait_until_entered()
        sharing = []
        for number, caller in enumerate((CALLER, OTHER_CALLER)):
            headers = traceparent(caller)
            sharing.append(asyncio.ensure_future(client.post("/decode", json=body, headers=headers)))
            while gate.decoder.queued_rows <= number:
                await asyncio.sleep(0)
        gate.release.set()
        answers = await asyncio.gather(lone, *sharing)
        assert [answer.status_code for answer in answers] == [200] * 3
        assert gate.batches == [1, 2]
        await gate.end()
    spans = found.get_finished_spans()
    first, second = (
        by_name([span for span in spans if trace_id(span) == caller]) for caller in (CALLER, OTHER_CALLER)
    )
    run = first["decoder run"]
    assert "decoder run" not in second
    assert run.attributes == {"car_vae.batch.rows": 2}
    assert linked(run) == [id_of(first["POST /decode"]), id_of(second["POST /decode"])]
    for trace in (first, second):
        assert linked(trace["decoder inference"]) == [id_of(run)]


async def test_the_parts_of_a_large_request_are_runs_of_its_trace(serve: Serve) -> None:
    async with serve(tracing=True, max_batch_rows=2) as client:
        found = spans_of(client)
        answer = await client.get("/sample?count=5&seed=1", headers=traceparent())
        assert answer.status_code == 200
        spans = found.get_finished_spans()
    runs = [span for span in spans if span.name == "decoder run"]
    assert [span.attributes["car_vae.batch.rows"] for span in runs if span.attributes] == [2, 2, 1]
    (inference,) = (span for span in spans if span.name == "decoder inference")
    assert linked(inference) == [id_of(run) for run in runs]


async def test_a_broken_image_ends_its_span_with_the_error(serve: Serve) -> None:
    async with serve(tracing=True) as client:
        found = spans_of(client)
        headers = traceparent() | {"Content-Type": "image/png"}
        check_problem(await client.post("/encode", content=PNG[:60], headers=headers), 400)
        spans = by_name(found.get_finished_spans())
    assert set(spans) == {"POST /encode", "read", "decode"}
    assert spans["decode"].status.status_code is StatusCode.ERROR
    request = spans["POST /encode"]
    assert request.status.status_code is StatusCode.UNSET  # the client's fault, not the server's
    assert request.attributes is not None
    assert request.attributes["http.response.status_code"] == 400


async def test_a_failed_batch_ends_its_spans_with_the_error(serve: Serve) -> None:
    async with serve(tracing=True) as client:
        found = spans_of(client)
        gate = Gate(client)
        gate.failing = True
        gate.release.set()
        check_problem(await client.post("/decode", json={"latents": LATENTS[:1]}, headers=traceparent()), 500)
        await gate.end()
        spans = by_name(found.get_finished_spans())
    assert {name for name, span in spans.items() if span.status.status_code is StatusCode.ERROR} == {
        "POST /decode",
        "decoder inference",
        "decoder run",
    }
    assert spans["decoder run"].attributes is not None
    assert spans["decoder run"].attributes["error.type"] == "RuntimeError"
    assert "secret" not in "".join(span.to_json() for span in spans.values())


async def test_who_waits_too_long_has_a_span_of_the_wait(serve: Serve) -> None:
    async with serve(tracing=True) as client:
        found = spans_of(client)
        gate = Gate(client, queue_timeout=0.05)
        body = {"latents": LATENTS[:1]}
        running = asyncio.ensure_future(client.post("/decode", json=body))
        await gate.wait_until_entered()
        check_problem(await client.post("/decode", json=body, headers=traceparent()), 504)
        gate.release.set()
        assert (await running).status_code == 200
        await gate.end()
        spans = by_name([span for span in found.get_finished_spans() if trace_id(span) == CALLER])
    assert set(spans) == {"POST /decode", "read", "decoder queue"}
    assert spans["decoder queue"].attributes == {"error.type": "QueueTimeout"}


@pytest.mark.parametrize("runs", [True, False])
async def test_who_is_cancelled_leaves_no_span_open(serve: Serve, runs: bool) -> None:
    async with serve(tracing=True) as client:
        found = spans_of(client)
        gate = Gate(client)
        body = {"latents": LATENTS[:1]}
        before = [] if runs else [asyncio.ensure_future(client.post("/decode", json=body))]
        if before:
            await gate.wait_until_entered()
        gone = asyncio.ensure_future(client.post("/decode", json=body, headers=traceparent()))
        if runs:
            await gate.wait_until_entered()
        while not runs and gate.decoder.queued_rows == 0:
            await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        gate.release.set()
        await asyncio.gather(*before)
        await gate.end()
        spans = by_name([span for span in found.get_finished_spans() if trace_id(span) == CALLER])
    ended_by_it = "decoder inference" if runs else "decoder queue"
    assert spans[ended_by_it].attributes == {"error.type": "CancelledError"}
    assert set(spans) == {"POST /decode", "read", "decoder queue"} | (
        {"decoder inference", "decoder run"} if runs else set()
    )
    check_ended_within(spans, "POST /decode")


async def test_no_key_is_told(serve: Serve) -> None:
    async with serve(tracing=True, api_keys="sesame") as client:
        found = spans_of(client)
        headers = {"X-API-Key": "sesame", "Authorization": "Bearer tortoise"}
        assert (await client.get("/sample?seed=1", headers=headers)).status_code == 200
        spans = found.get_finished_spans()
    assert [span.name for span in spans if re.search("sesame|tortoise", span.to_json())] == []


async def test_without_a_caller_a_trace_begins_here(serve: Serve) -> None:
    async with serve(tracing=True) as client:
        found = spans_of(client)
        await client.get("/sample?seed=1")
        spans = by_name(found.get_finished_spans())
    assert spans["GET /sample"].parent is None
    assert len({trace_id(span) for span in spans.values()}) == 1


async def test_probes_and_what_the_caller_did_not_sample_have_no_spans(serve: Serve) -> None:
    async with serve(tracing=True) as client:
        found = spans_of(client)
        assert (await client.get("/sample?seed=1", headers=traceparent(flags="00"))).status_code == 200
        for path in ("/health/live", "/health/ready", "/metrics"):
            assert (await client.get(path, headers=traceparent())).status_code == 200
        assert found.get_finished_spans() == ()


async def test_logs_name_the_trace(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "app.server.middleware")
    async with serve(tracing=True) as client:
        await client.get("/model", headers=traceparent())
        await client.get("/model", headers=traceparent(flags="00"))
    traced, untraced = (record for record in caplog.records if hasattr(record, "request"))
    assert json.loads(JsonFormatter().format(traced))["trace_id"] == CALLER
    assert TextFormatter().format(traced).endswith(f" trace={CALLER}")
    assert "trace" not in JsonFormatter().format(untraced)
    assert "trace" not in TextFormatter().format(untraced)


async def test_the_variables_of_opentelemetry_are_heeded(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced = settings.model_copy(update={"tracing": True})
    tracing = open_tracing(traced)
    assert tracing is not None
    attributes = tracing.provider.resource.attributes
    assert attributes["service.name"] == "car-vae"
    assert attributes["service.version"] == version()
    monkeypatch.setenv("OTEL_SERVICE_NAME", "cars-of-berlin")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.version=7")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    tracing = open_tracing(traced)
    assert tracing is not None
    attributes = tracing.provider.resource.attributes
    assert attributes["service.name"] == "cars-of-berlin"
    assert attributes["service.version"] == "7"
    assert attributes["deployment.environment.name"] == "test"
    assert not tracing.provider.get_tracer("test").start_span("test").is_recording()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_TRACES_EXPORTER", "jaeger"),
        ("OTEL_TRACES_EXPORTER", "otlp,"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier/pigeon"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_what_cannot_be_done_refuses_to_start(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str, value: str, workers: int
) -> None:
    monkeypatch.delenv("OTEL_TRACES_EXPORTER")
    monkeypatch.setenv(name, value)
    with pytest.raises(TracingUnavailable, match="OTEL_") as refused:
        configuration(settings.model_copy(update={"tracing": True, "workers": workers}))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("workers", [1, 2])
def test_without_the_extra_it_refuses_to_start_and_says_what_to_install(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.delitem(sys.modules, "app.server.tracing", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(TracingUnavailable, match=r"pip install 'car-vae\[otel\]'"):
        configuration(settings.model_copy(update={"tracing": True, "workers": workers}))


def test_switched_off_it_is_not_even_imported(model_folder: Path) -> None:
    program = """
import asyncio, sys
from app.main import create_app
async def live(app):
    async with app.router.lifespan_context(app):
        pass
asyncio.run(live(create_app()))
others = ('opentelemetry.sdk', 'opentelemetry.exporter', 'app.server.tracing')
print(sorted(name for name in sys.modules if name.startswith(others)))
"""
    environment = os.environ | {"CAR_VAE_MODEL_DIR": str(model_folder), "CAR_VAE_DEVICE": "cpu"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


async def test_switched_off_a_request_has_no_trace(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "app.server.middleware")
    async with serve() as client:
        assert (await client.get("/sample?seed=1", headers=traceparent())).status_code == 200
    (record,) = (record for record in caplog.records if hasattr(record, "request"))
    assert "trace" not in TextFormatter().format(record)


class Collector(ThreadingHTTPServer):
    """An OTLP collector that keeps what it gets; `answers` says whether it answers."""

    def __init__(self, *, answers: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), _CollectorHandler)
        self.got: list[ExportTraceServiceRequest] = []
        self.asked = threading.Event()
        self.may_answer = threading.Event()
        if answers:
            self.may_answer.set()

    def spans(self) -> list[tuple[str, str, str]]:
        """(service, name, trace id) of each span."""
        return [
            (
                next(
                    each.value.string_value for each in of.resource.attributes if each.key == "service.name"
                ),
                span.name,
                span.trace_id.hex(),
            )
            for request in self.got
            for of in request.resource_spans
            for scope in of.scope_spans
            for span in scope.spans
        ]


class _CollectorHandler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        assert self.path == "/v1/traces"
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.set()
        assert self.server.may_answer.wait(60)
        self.server.got.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def collecting(*, answers: bool = True) -> Iterator[Collector]:
    with Collector(answers=answers) as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            collector.may_answer.set()
            collector.shutdown()
            thread.join()


@pytest.mark.parametrize("workers", [1, 2])
def test_spans_reach_a_collector_the_last_of_them_at_the_end(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.delenv("OTEL_TRACES_EXPORTER")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "cars")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
        with serving(model_folder, tmp_path / "log", tracing="true", workers=str(workers)) as client:
            assert client.get("/sample?seed=1", headers=traceparent()).status_code == 200
            assert collector.got == []
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert {"GET /sample", "decoder run"} <= {name for _, name, _ in collector.spans()}
    assert {service for service, _, _ in collector.spans()} == {"cars"}
    assert {trace for _, _, trace in collector.spans()} == {CALLER}


def test_a_collector_that_hangs_holds_up_neither_requests_nor_the_end(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OTEL_TRACES_EXPORTER")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "600")
    with collecting(answers=False) as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
        with serving(model_folder, tmp_path / "log", tracing="true") as client:
            for _ in range(2):
                assert client.get("/sample?seed=1").status_code == 200
                assert collector.asked.wait(30)
        assert collector.got == []
