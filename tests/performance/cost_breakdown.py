"""`python -m tests.performance.cost_breakdown`: what each step of a request costs at best, and their sum."""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from matplotlib.figure import Figure
from numpy.typing import NDArray

from app.api.bodies import parse_images
from app.api.validation import read_latents
from app.images.arrays import ImageArray
from app.images.decode import read_image
from app.images.encode import encode_gif, grid
from app.images.png import encode_png
from app.inference.session import Session, SessionSpec, decoder_graph, encoder_graph, open_sessions
from app.model.default_model import default_model_dir
from app.model.manifest import read_model_file, read_model_folder
from tests.performance.bench import processes
from tests.performance.bench.inputs import MULTIPART, jpegs, latents_json, multipart
from tests.performance.bench.load import drive, measure
from tests.performance.bench.report import Summary, markdown_table, summarise
from tests.performance.bench.servers import OURS, free_port, interpreter
from tests.performance.machine import describe_machine

BATCHES = (1, 4, 16, 64)
BEST_BATCH = 16
REPEATS = 7
REPEAT_SECONDS = 0.2
HTTP_CONNECTIONS = 32
MAX_PIXELS = 10**8

ENCODER, DECODER = f"encoder, batch of {BEST_BATCH}", f"decoder, batch of {BEST_BATCH}"
JPEG_SMALL, JPEG_LARGE = "JPEG 256 x 256, decode and fit", "JPEG 1920 x 1080, decode and fit"
PNG = "PNG of a picture"
JSON_OUT, JSON_IN = "JSON out, mean and std", "JSON in, 1 latent"
FORM = "multipart, 1 picture"
HTTP = "an empty route over HTTP"

FORMS, JSON_IN_64 = "multipart, 16 pictures", "JSON in, 64 latents"
SHEET = "PNG of a grid of 64"
GIF = "GIF of 16 frames"

FLOORS: Mapping[str, Mapping[str, int]] = {
    "encode-256": {HTTP: 1, FORM: 1, JPEG_SMALL: 1, ENCODER: 1, JSON_OUT: 1},
    "encode-1080p": {HTTP: 1, FORM: 1, JPEG_LARGE: 1, ENCODER: 1, JSON_OUT: 1},
    "encode-16": {HTTP: 1, FORMS: 1, JPEG_SMALL: 16, ENCODER: 16, JSON_OUT: 16},
    "decode-1": {HTTP: 1, JSON_IN: 1, DECODER: 1, PNG: 1},
    "decode-64": {HTTP: 1, JSON_IN_64: 1, DECODER: 64, SHEET: 1},
    "reconstruct": {HTTP: 1, FORM: 1, JPEG_SMALL: 1, ENCODER: 1, DECODER: 1, PNG: 1},
    "interpolate-16": {HTTP: 1, JSON_IN: 2, DECODER: 16, GIF: 1},
}
"""How often a request of each workload of the bench has to go through each step."""
PLOTTED = ("encode-256", "encode-1080p", "decode-1", "reconstruct")
"""Workloads of one picture or latent: the others would need a scale of their own."""


@dataclass(frozen=True)
class Step:
    """What one step costs for one item.

    Attributes:
        cpu_us: microseconds of CPU time, of all threads and processes that take part.
        per_second: items a second by the clock, the best of the repeats.
    """

    name: str
    cpu_us: Summary
    per_second: float


def time_step(name: str, work: Callable[[], object], items: int = 1) -> Step:
    """Repeat `work`, which does `items` items, REPEATS times for about REPEAT_SECONDS each."""
    work()
    began = time.perf_counter()
    work()
    loops = max(1, round(REPEAT_SECONDS / (time.perf_counter() - began)))
    cpu, rate = [], []
    for _ in range(REPEATS):
        cpu_began, began = time.process_time(), time.perf_counter()
        for _ in range(loops):
            work()
        cpu.append(1e6 * (time.process_time() - cpu_began) / (loops * items))
        rate.append(loops * items / (time.perf_counter() - began))
    return Step(name, summarise(cpu), max(rate))


def model_steps(folder: Path) -> list[Step]:
    """Both graphs as the service opens them: every batch size, and two sessions side by side."""
    manifest = read_model_folder(folder).manifest
    steps = []
    for name, graph, file in (
        ("encoder", encoder_graph(manifest), manifest.files.encoder),
        ("decoder", decoder_graph(manifest), manifest.files.decoder),
    ):
        spec = SessionSpec("cpu", max(BATCHES))
        model = read_model_file(folder, file)
        pair = [open_sessions({graph: model}, spec)[0] for _ in range(2)]
        (source,) = graph.inputs
        inputs = {rows: _rows(source.dtype, (rows, *source.row_shape)) for rows in BATCHES}
        steps += [
            time_step(f"{name}, batch of {rows}", _run(pair[:1], inputs[rows]), rows) for rows in BATCHES
        ]
        with ThreadPoolExecutor(len(pair)) as threads:
            steps += [
                time_step(
                    f"{name}, batch of {rows}, two sessions",
                    _run(pair, inputs[rows], threads),
                    len(pair) * rows,
                )
                for rows in BATCHES
            ]
    return steps


def _rows(dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    random = np.random.default_rng(0)
    if dtype == "uint8":
        return random.integers(0, 256, shape, dtype=np.uint8)
    return random.standard_normal(shape, dtype=np.float32)


def _run(
    sessions: Sequence[Session], rows: NDArray[Any], threads: ThreadPoolExecutor | None = None
) -> Callable[[], object]:
    """Work that runs the rows once in every session, side by side where there are threads."""
    if threads is None:
        return lambda: [session.run(rows) for session in sessions]
    return lambda: list(threads.map(lambda session: session.run(rows), sessions))


def host_steps(folder: Path) -> list[Step]:
    """Pictures, JSON and multipart as the service does them."""
    manifest = read_model_folder(folder).manifest
    size, dim = manifest.image_size, manifest.latent_dim
    small, large = jpegs(16, 256, 256, seed=1), jpegs(1, 1920, 1080, seed=2)

    def read(file: bytes) -> ImageArray:
        return read_image(file, size.width, size.height, MAX_PIXELS)

    fitted = np.stack([read(file) for file in small])
    sheet = grid([fitted[index % len(fitted)] for index in range(64)])
    latents = _rows("float32", (64, dim))
    one, many = latents_json(latents[:1]), latents_json(latents)
    answer = {"model": manifest.id, "latents": latents[:1], "std": np.abs(latents[:1])}
    form, forms = multipart(small[:1]), multipart(small)

    def take(body: bytes) -> object:
        return read_latents(orjson.loads(body), dim, len(latents))

    return [
        time_step(JPEG_SMALL, lambda: [read(file) for file in small], len(small)),
        time_step(JPEG_LARGE, lambda: read(large[0])),
        time_step(PNG, lambda: [encode_png(picture) for picture in fitted], len(fitted)),
        time_step(SHEET, lambda: encode_png(sheet)),
        time_step(GIF, lambda: encode_gif(list(fitted))),
        time_step(JSON_OUT, lambda: orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)),
        time_step(JSON_IN, lambda: take(one)),
        time_step(JSON_IN_64, lambda: take(many)),
        time_step(FORM, lambda: parse_images(form, MULTIPART, 64)),
        time_step(FORMS, lambda: parse_images(forms, MULTIPART, 64)),
    ]


def http_step(folder: Path, seconds: int) -> Step:
    """GET /health/live of the running service: what uvicorn and the layers around every route cost."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = OURS.command(interpreter(OURS, folder), port)
    env = OURS.environment(folder, port, next(iter(OURS.variants)))
    with tempfile.TemporaryDirectory(prefix="cost-breakdown-") as scratch:
        requests = Path(scratch)
        (requests / "headers").write_text("Accept: */*\n")
        ready = [url + path for path in OURS.ready]
        with processes.running(command, env, ready, requests / "log"):
            drive(url + "/health/live", requests, HTTP_CONNECTIONS, 1)
            measured = [
                measure(
                    url + "/health/live",
                    requests,
                    HTTP_CONNECTIONS,
                    seconds,
                    processes.tree_cpu_seconds,
                    processes.tree_memory_bytes,
                )
                for _ in range(3)
            ]
    rate = max(one.load.per_second for one in measured)
    return Step(HTTP, summarise(1000 * one.cpu_ms for one in measured), rate)


def floors(steps: Sequence[Step]) -> dict[str, dict[str, float]]:
    """CPU milliseconds per request of each workload that nothing but faster steps can save, by step."""
    cost = {step.name: step.cpu_us.median / 1000 for step in steps}
    return {
        workload: {name: times * cost[name] for name, times in steps_of.items()}
        for workload, steps_of in FLOORS.items()
    }


def measured_cpu_ms(results: Path, connections: int = 32) -> dict[str, float]:
    """What the bench found for this service at `connections`: CPU milliseconds per request by workload."""
    samples = json.loads(results.read_text())["samples"]
    own = [s for s in samples if s["server"] == OURS.name and s["connections"] == connections]
    return {
        workload: statistics.median(s["cpu_ms"] for s in own if s["workload"] == workload)
        for workload in {s["workload"] for s in own}
    }


def report(steps: Sequence[Step], measured: Mapping[str, float]) -> str:
    """The tables as Markdown."""
    machine = "".join(f"- {name}: {value}\n" for name, value in describe_machine().items())
    rows = [[step.name, str(step.cpu_us), f"{step.per_second:,.0f}"] for step in steps]
    table = markdown_table(["step, for one item", "CPU microseconds", "per second"], rows)
    sums = [
        [
            workload,
            f"{sum(parts.values()):.2f}",
            f"{measured[workload]:.2f}" if workload in measured else "",
            ", ".join(f"{name} {value:.2f}" for name, value in parts.items()),
        ]
        for workload, parts in floors(steps).items()
    ]
    floor = markdown_table(["workload", "floor, CPU ms", "measured, CPU ms", "the floor is"], sums)
    return f"# The cost of each step\n\n{machine}\n{table}\n{floor}"


def plot(steps: Sequence[Step], measured: Mapping[str, float], path: Path) -> None:
    """A stacked bar of the floor for each workload in PLOTTED, and what the bench measured behind it."""
    parts = {workload: costs for workload, costs in floors(steps).items() if workload in PLOTTED}
    names = dict.fromkeys(name for costs in parts.values() for name in costs)
    figure = Figure(figsize=(9, 0.8 * len(parts) + 1.8), layout="constrained")
    axes = figure.subplots()
    workloads = list(parts)[::-1]
    if measured:
        behind = [measured.get(workload, 0.0) for workload in workloads]
        axes.barh(workloads, behind, height=0.8, color="0.88", label="measured")
    left = np.zeros(len(workloads))
    for name in names:
        widths = np.array([parts[workload].get(name, 0.0) for workload in workloads])
        axes.barh(workloads, widths, left=left, height=0.5, label=name)
        left += widths
    axes.set_xlabel("CPU ms per request")
    figure.legend(loc="outside lower center", ncols=3, fontsize="small")
    figure.savefig(path, dpi=150)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, write cost-breakdown.md, cost-breakdown.json and cost-breakdown.png."""
    parser = argparse.ArgumentParser(prog="python -m tests.performance.cost_breakdown", description=__doc__)
    parser.add_argument("--model-dir", type=Path, default=default_model_dir())
    parser.add_argument("--results", type=Path, help="results.json of the bench, to stand beside the floor")
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement over HTTP")
    parser.add_argument("--out", type=Path, default=Path("runs/cost-breakdown"))
    options = parser.parse_args(arguments)
    folder = options.model_dir.resolve()
    steps = [*model_steps(folder), *host_steps(folder), http_step(folder, options.seconds)]
    measured = measured_cpu_ms(options.results) if options.results else {}
    options.out.mkdir(parents=True, exist_ok=True)
    text = report(steps, measured)
    (options.out / "cost-breakdown.md").write_text(text)
    document = {"machine": describe_machine(), "steps": [asdict(step) for step in steps]}
    (options.out / "cost-breakdown.json").write_text(json.dumps(document, indent=1) + "\n")
    plot(steps, measured, options.out / "cost-breakdown.png")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
