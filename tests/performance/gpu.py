"""`python -m tests.performance.gpu`: what a CUDA card does with the exported graphs, and what it could do."""

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnxruntime.transformers.float16 import convert_float_to_float16
from torch import Tensor, nn

from app.errors import ModelFolderError, ProviderUnavailable
from app.inference.session import (
    BATCH_ROWS,
    CPU,
    CUDA,
    GraphSpec,
    Session,
    SessionSpec,
    _cuda_options,
    _load_cuda,
    _options,
    decoder_graph,
    encoder_graph,
    open_sessions,
)
from app.model.default_model import default_model_dir
from app.model.manifest import Manifest, read_model_file, read_model_folder
from model_training.backends.torch_backend import DecoderGraph, EncoderGraph, TorchBackend
from model_training.data.synthetic import draw_cars
from model_training.networks.vae import VAE
from tests.performance.bench.report import MIB, Summary, markdown_table, summarise
from tests.performance.machine import describe_machine

Array = NDArray[Any]
Call = Callable[[], list[Array]]
"""Rows from the host through the graphs and back; the arrays are overwritten by the next call."""

BATCHES = tuple(1 << exponent for exponent in range(9))
ROUNDS = 5
ROUND_SECONDS = 0.2
WARM_UP_CALLS = 5
"""CUDA graphs are captured after two ordinary runs."""

COPY_BYTES = 1 << 28
PRODUCT_SIZE = 8192
MEMORY_BLOCKS, MEMORY_BATCHES = 6, 50


@dataclass(frozen=True)
class Device:
    """Where graphs run: the provider of ONNX Runtime, PyTorch's name of it, and on a GPU the stream that all
    copies and graphs go through, in order."""

    provider: str = CPU
    memory: torch.device = field(default_factory=lambda: torch.device("cpu"))
    stream: torch.cuda.Stream | None = None

    def here(self) -> AbstractContextManager[object]:
        """PyTorch's own work goes through the stream too."""
        return nullcontext() if self.stream is None else torch.cuda.stream(self.stream)

    def wait(self) -> None:
        """Until the card has done everything."""
        if self.stream is not None:
            torch.cuda.synchronize(self.memory)

    def host(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A buffer on the host, pinned where there is a GPU to copy from and to."""
        return torch.empty(tuple(shape), dtype=dtype, pin_memory=self.stream is not None)

    def providers(self, options: Mapping[str, str]) -> list[Any]:
        """As the service opens them, on this stream and with changed options."""
        if self.stream is None:
            return [self.provider]
        own = _cuda_options(SessionSpec("cuda"))
        stream = {"user_compute_stream": str(self.stream.cuda_stream)}
        return [(self.provider, {**own, **stream, **options}), CPU]


@dataclass(frozen=True)
class Way:
    """How ONNX Runtime is used.

    Attributes:
        options: of the CUDA provider, where they differ from the service's.
        bound: the graphs work on buffers on the device, filled from pinned ones; else plain run().
        half: the graphs compute in float16; what goes in and out stays as it is.
    """

    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    bound: bool = True
    half: bool = False


GRAPHED = {"enable_cuda_graph": "1"}
WAYS = (
    Way("run(), as the service", bound=False),
    Way("IO binding"),
    Way("IO binding, TF32", {"use_tf32": "1"}),
    Way("IO binding, NHWC", {"prefer_nhwc": "1"}),
    Way("IO binding, exhaustive search", {"cudnn_conv_algo_search": "EXHAUSTIVE"}),
    Way("CUDA graph", GRAPHED),
    Way("CUDA graph, TF32", {**GRAPHED, "use_tf32": "1"}),
    Way("CUDA graph, float16, NHWC", {**GRAPHED, "prefer_nhwc": "1"}, half=True),
)
TORCH_WAYS: Mapping[str, str | None] = {"torch, eager": None, "torch.compile": "reduce-overhead"}
"""Each with the mode it is compiled in."""


@dataclass(frozen=True)
class Job:
    """Graphs one after another, each on the first output of the one before."""

    name: str
    graphs: Sequence[GraphSpec]
    models: Sequence[bytes]
    rows: Array
    """As many as the largest batch has."""


@dataclass(frozen=True)
class Parity:
    """How far outputs are from the CPU provider's.

    Attributes:
        decibels: the error below the peak of pictures (255), or below the values themselves; infinite where
            nothing differs.
        most: the largest difference, in grey levels or in the outputs' own unit.
    """

    decibels: float
    most: float


@dataclass(frozen=True)
class Figure:
    """Rows a second of one way at one batch size, and its parity."""

    job: str
    way: str
    batch: int
    per_second: Summary
    parity: Parity


@dataclass(frozen=True)
class Floors:
    """What the card does at best: bytes a second each way between pinned and its own memory, and operations
    a second in a large product, by precision."""

    to_device: float
    to_host: float
    operations: Mapping[str, float]


def jobs(folder: Path, rows: int) -> list[Job]:
    """Encode, decode and reconstruct drawn cars and random latents."""
    manifest = read_model_folder(folder).manifest
    encoder, decoder = encoder_graph(manifest), decoder_graph(manifest)
    coded = read_model_file(folder, manifest.files.encoder)
    decoded = read_model_file(folder, manifest.files.decoder)
    pictures = draw_cars(rows, manifest.image_size.width, manifest.image_size.height, seed=1)
    latents = np.random.default_rng(0).standard_normal((rows, manifest.latent_dim), dtype=np.float32)
    return [
        Job("encode", [encoder], [coded], pictures),
        Job("decode", [decoder], [decoded], latents),
        Job("reconstruct", [encoder, decoder], [coded, decoded], pictures),
    ]


def open_graphs(job: Job, way: Way, device: Device) -> list[ort.InferenceSession]:
    """A session for each graph.

    Raises:
        ProviderUnavailable: it fell back to another provider.
    """
    sessions = []
    for model in job.models:
        content = to_half(model) if way.half else model
        options = _options(SessionSpec("cpu" if device.stream is None else "cuda"))
        session = ort.InferenceSession(content, options, providers=device.providers(way.options))
        session.disable_fallback()
        if session.get_providers()[0] != device.provider:
            raise ProviderUnavailable(f"ONNX Runtime fell back to {session.get_providers()[0]}")
        sessions.append(session)
    return sessions


def to_half(model: bytes) -> bytes:
    """The graph in float16, with casts at its inputs and outputs."""
    content: bytes = convert_float_to_float16(
        onnx.load_from_string(model), keep_io_types=True
    ).SerializeToString()
    return content


def plain_call(job: Job, sessions: Sequence[ort.InferenceSession], rows: Array) -> Call:
    """run() of each graph; what lies between two graphs crosses to the host and back."""

    def call() -> list[Array]:
        values = [rows]
        for graph, session in zip(job.graphs, sessions, strict=True):
            names = [output.name for output in graph.outputs]
            values = session.run(names, {graph.inputs[0].name: values[0]})
        return values

    return call


class BoundCall:
    """IO binding: pinned rows -> device, every graph in place, device -> pinned rows; one wait at the end."""

    def __init__(
        self,
        job: Job,
        sessions: Sequence[ort.InferenceSession],
        rows: Array,
        device: Device,
        graph_id: int,
    ) -> None:
        """`graph_id` tells CUDA graphs of one session apart: each holds one batch size and its addresses."""
        self.device, self.sessions = device, sessions
        self.options = ort.RunOptions()
        self.options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self.options.add_run_config_entry("gpu_graph_id", str(graph_id))
        given = torch.from_numpy(rows)
        self.rows = device.host(given.shape, given.dtype).copy_(given)
        self.input = torch.empty_like(self.rows, device=device.memory, pin_memory=False)
        self.bindings, self.buffers = [], [[self.input]]
        for graph, session in zip(job.graphs, sessions, strict=True):
            (source,) = graph.inputs
            outputs = [
                torch.empty((len(rows), *output.row_shape), dtype=_dtype(output.dtype), device=device.memory)
                for output in graph.outputs
            ]
            binding = session.io_binding()
            binding.bind_input(source.name, *_place(self.buffers[-1][0], source.dtype))
            for output, buffer in zip(graph.outputs, outputs, strict=True):
                binding.bind_output(output.name, *_place(buffer, output.dtype))
            self.bindings.append(binding)
            self.buffers.append(outputs)
        self.results = [device.host(output.shape, output.dtype) for output in self.buffers[-1]]
        device.wait()

    def __call__(self) -> list[Array]:
        with self.device.here():
            self.input.copy_(self.rows, non_blocking=True)
            for session, binding in zip(self.sessions, self.bindings, strict=True):
                session.run_with_iobinding(binding, self.options)
            for result, output in zip(self.results, self.buffers[-1], strict=True):
                result.copy_(output, non_blocking=True)
        self.device.wait()
        return [result.numpy() for result in self.results]


def _dtype(name: str) -> torch.dtype:
    found: torch.dtype = getattr(torch, name)
    return found


def _place(buffer: Tensor, dtype: str) -> tuple[str, int, type[np.generic], list[int], int]:
    """The arguments with which a buffer is bound."""
    return buffer.device.type, 0, np.dtype(dtype).type, list(buffer.shape), buffer.data_ptr()


class Reconstruct(nn.Module):
    """Encoder and decoder as one, so that they are compiled as one."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.encoder, self.decoder = EncoderGraph(model), DecoderGraph(model)

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, height, width, 3) uint8 -> the same of the mean."""
        decoded: Tensor = self.decoder(self.encoder(pictures)[0])
        return decoded


TORCH_MODULES: Mapping[str, Callable[[VAE], nn.Module]] = {
    "encode": EncoderGraph,
    "decode": DecoderGraph,
    "reconstruct": Reconstruct,
}


def torch_call(module: nn.Module, mode: str | None, rows: Array, device: Device) -> Call:
    """The same with PyTorch: pinned rows -> device, the module, device -> pinned rows.

    Args:
        mode: what the module is compiled for, at this batch size alone; None runs it eagerly.
    """
    if mode is not None:
        module.compile(mode=mode, dynamic=False)
    given = torch.from_numpy(rows)
    pinned = device.host(given.shape, given.dtype).copy_(given)
    results: list[Tensor] = []

    def call() -> list[Array]:
        with torch.inference_mode(), device.here():
            found = module(pinned.to(device.memory, non_blocking=True))
            values = found if isinstance(found, tuple) else (found,)
            if not results:
                results.extend(device.host(value.shape, value.dtype) for value in values)
            for result, value in zip(results, values, strict=True):
                result.copy_(value, non_blocking=True)
        device.wait()
        return [result.numpy() for result in results]

    return call


def climb(
    job: Job,
    device: Device,
    batches: Sequence[int],
    ways: Sequence[Way],
    model: VAE | None,
    torch_ways: Mapping[str, str | None],
    failed: dict[str, str],
) -> list[Figure]:
    """Every way at every batch size, in rounds in which all of them take their turn.

    Args:
        model: the same weights, for PyTorch; on the device, ready for inference.
        failed: takes what did not work, with the reason.
    """
    expected = plain_call(job, open_graphs(job, WAYS[0], Device()), job.rows)()
    opened: dict[str, list[ort.InferenceSession]] = {}
    for way in ways:
        try:
            opened[way.name] = open_graphs(job, way, device)
        except Exception as error:  # ONNX Runtime's have no common base
            failed[f"{job.name}, {way.name}"] = _line(error)
    figures = []
    for number, batch in enumerate(batches, start=1):
        rows = job.rows[:batch]
        made: dict[str, Callable[[], Call]] = {
            way.name: partial(BoundCall, job, opened[way.name], rows, device, graph_id=number)
            if way.bound
            else partial(plain_call, job, opened[way.name], rows)
            for way in ways
            if way.name in opened
        }
        if model is not None:
            torch.compiler.reset()  # else the ninth batch size would quietly be run eagerly
            for name, mode in torch_ways.items():
                made[name] = partial(torch_call, TORCH_MODULES[job.name](model), mode, rows, device)
        calls, parities = {}, {}
        for name, make in made.items():
            try:
                call = make()
                for _ in range(WARM_UP_CALLS):
                    found = call()
                calls[name], parities[name] = call, parity(expected[0][:batch], found[0])
            except Exception as error:  # as above
                failed[f"{job.name}, {name}, batch of {batch}"] = _line(error)
        rates = in_turns(calls, batch)
        figures += [
            Figure(job.name, name, batch, summarise(rates[name]), found_parity)
            for name, found_parity in parities.items()
        ]
    return figures


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def in_turns(calls: Mapping[str, Call], rows: int) -> dict[str, list[float]]:
    """Rows a second of each call in each of ROUNDS rounds of about ROUND_SECONDS."""
    loops = {}
    for name, call in calls.items():
        began = time.perf_counter()
        call()
        loops[name] = max(1, round(ROUND_SECONDS / (time.perf_counter() - began)))
    rates: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            began = time.perf_counter()
            for _ in range(loops[name]):
                call()
            rates[name].append(loops[name] * rows / (time.perf_counter() - began))
    return rates


def parity(expected: Array, found: Array) -> Parity:
    """Compare outputs of one shape and dtype; uint8 are grey levels."""
    difference = found.astype(np.float64) - expected.astype(np.float64)
    error = float(np.square(difference).mean())
    power = 255.0**2 if expected.dtype == np.uint8 else float(np.square(expected.astype(np.float64)).mean())
    decibels = 10 * math.log10(power / error) if error else math.inf
    return Parity(decibels, float(np.abs(difference).max()))


def measure_floors(device: Device, copy_bytes: int, size: int) -> Floors:
    """Time copies of `copy_bytes` and products of two square matrices of `size`."""
    host = device.host((copy_bytes,), torch.uint8)
    there = torch.empty(copy_bytes, dtype=torch.uint8, device=device.memory)
    to_device = _repeat(device, lambda: there.copy_(host, non_blocking=True))
    to_host = _repeat(device, lambda: host.copy_(there, non_blocking=True))
    operations = {}
    for name, dtype, precision in (
        ("float32", torch.float32, "highest"),
        ("TF32", torch.float32, "high"),
        ("float16", torch.float16, "highest"),
    ):
        torch.set_float32_matmul_precision(precision)
        left = torch.randn(size, size, device=device.memory).to(dtype)
        product = torch.empty_like(left)
        device.wait()
        operations[name] = 2.0 * size**3 * _repeat(device, partial(torch.mm, left, left, out=product))
    torch.set_float32_matmul_precision("highest")
    return Floors(copy_bytes * to_device, copy_bytes * to_host, operations)


def _repeat(device: Device, work: Callable[[], object], times: int = 20) -> float:
    """How often a second, at best of three."""
    best = 0.0
    with device.here():
        for _ in range(3):
            work()
            device.wait()
            began = time.perf_counter()
            for _ in range(times):
                work()
            device.wait()
            best = max(best, times / (time.perf_counter() - began))
    return best


def operations_per_row(model: bytes) -> int:
    """Operations of a graph's products for one row: two for each weight at each place it is applied."""
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(model)).graph
    sizes = {weight.name: math.prod(weight.dims) for weight in graph.initializer}
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    total = 0
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in sizes:  # a weight that is stored as float16
            sizes[node.output[0]] = sizes[node.input[0]]
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            continue
        weight = max(sizes.get(name, 0) for name in node.input)
        applied = shapes[node.output[0] if node.op_type == "Conv" else node.input[0]][2:]
        total += 2 * weight * math.prod(applied)
    return total


def limits(job: Job, floors: Floors) -> list[str]:
    """A row of a table: what the job moves and computes, and how many a second that allows."""
    outputs = job.graphs[-1].outputs
    (source,) = job.graphs[0].inputs
    taken = _row_bytes(source.dtype, source.row_shape)
    given = sum(_row_bytes(output.dtype, output.row_shape) for output in outputs)
    operations = sum(operations_per_row(model) for model in job.models)
    copies = min(floors.to_device / taken, floors.to_host / given)
    products = [f"{rate / operations:,.0f}" for rate in floors.operations.values()]
    return [job.name, f"{taken:,}", f"{given:,}", f"{operations / 1e6:,.1f}", f"{copies:,.0f}", *products]


def _row_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    return np.dtype(dtype).itemsize * math.prod(shape)


def mixed_batches(sessions: Sequence[Session], rows: Sequence[Array], used: Callable[[], int]) -> list[int]:
    """Bytes in use after each of MEMORY_BLOCKS blocks of MEMORY_BATCHES batches of random sizes.

    Args:
        rows: for each session, as many as its largest batch has.
    """
    random = np.random.default_rng(0)
    found = []
    for _ in range(MEMORY_BLOCKS):
        for _ in range(MEMORY_BATCHES):
            for session, own in zip(sessions, rows, strict=True):
                session.run(own[: random.integers(1, session.max_batch_rows + 1)])
        found.append(used())
    return found


def served_memory(folder: Path, manifest: Manifest) -> list[int]:
    """`mixed_batches` of the sessions that the service opens, by what the whole card has in use."""
    graphs = {
        encoder_graph(manifest): read_model_file(folder, manifest.files.encoder),
        decoder_graph(manifest): read_model_file(folder, manifest.files.decoder),
    }
    sessions = open_sessions(graphs, SessionSpec("cuda"))
    sources = [source for graph in graphs for source in graph.inputs]
    rows = [np.zeros((BATCH_ROWS["cuda"], *source.row_shape), source.dtype) for source in sources]

    def used() -> int:
        free, total = torch.cuda.mem_get_info()
        return total - free

    return mixed_batches(sessions, rows, used)


def cuda_device(folder: Path, manifest: Manifest) -> Device:
    """The first card.

    Raises:
        ProviderUnavailable: ONNX Runtime or PyTorch cannot use one; in one line, why.
    """
    _load_cuda()
    if not torch.cuda.is_available():
        raise ProviderUnavailable("PyTorch sees no CUDA device: no card, no driver, or a CPU build of torch")
    graph = encoder_graph(manifest)
    open_sessions({graph: read_model_file(folder, manifest.files.encoder)}, SessionSpec("cuda", 1))
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return Device(CUDA, torch.device("cuda", 0), torch.cuda.Stream())  # type: ignore[no-untyped-call]


def describe_card() -> str:
    """Name and memory of the card, and driver, as nvidia-smi says, else as PyTorch does."""
    command = [
        "nvidia-smi",
        "--id=0",
        "--query-gpu=name,memory.total,driver_version",
        "--format=csv,noheader",
    ]
    try:
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        name, memory, driver = (part.strip() for part in found.split(","))
    except (OSError, subprocess.CalledProcessError):
        return f"{torch.cuda.get_device_name(0)}, driver unknown"
    return f"{name}, {memory}, driver {driver}"


def job_table(figures: Sequence[Figure]) -> str:
    """A row for each way: pictures a second by batch size, then the worst parity of any."""
    batches = sorted({figure.batch for figure in figures})
    rows = []
    for way in dict.fromkeys(figure.way for figure in figures):
        own = {figure.batch: figure for figure in figures if figure.way == way}
        speeds = [f"{own[batch].per_second.median:,.0f}" if batch in own else "" for batch in batches]
        decibels = min(figure.parity.decibels for figure in own.values())
        most = max(figure.parity.most for figure in own.values())
        rows.append([way, *speeds, f"{decibels:.1f}", f"{most:.3g}"])
    return markdown_table(["batch of", *map(str, batches), "parity dB", "most off"], rows)


def report(
    head: Mapping[str, str],
    figures: Sequence[Figure],
    floors: Floors,
    every: Sequence[Job],
    memory: Sequence[int],
    failed: Mapping[str, str],
) -> str:
    """Everything as Markdown; each heading names the card, its driver and the date."""
    label = f"{head['GPU']}, {head['date']}"
    parts = ["# The card\n", *(f"- {name}: {value}" for name, value in head.items()), ""]
    for name in dict.fromkeys(figure.job for figure in figures):
        parts.append(f"## {name}, pictures/s ({label})\n")
        parts.append(job_table([figure for figure in figures if figure.job == name]))
    parts.append(f"## Limits ({label})\n")
    rates = ", ".join(f"{name} {rate / 1e12:.1f}" for name, rate in floors.operations.items())
    parts.append(
        f"Pinned memory to the card {floors.to_device / 1e9:.1f} GB/s, back {floors.to_host / 1e9:.1f} GB/s;"
        f" TFLOP/s of a large product: {rates}. No way can pass either limit, in pictures/s:\n"
    )
    products = [f"by products in {name}" for name in floors.operations]
    header = ["", "bytes in", "bytes out", "MFLOP", "by copies", *products]
    parts.append(markdown_table(header, [limits(job, floors) for job in every]))
    parts.append(f"## Memory ({label})\n")
    parts.append(
        f"In use on the whole card after each {MEMORY_BATCHES} batches of random sizes through the service's "
        f"sessions: {', '.join(f'{value / MIB:.0f}' for value in memory)} MiB; "
        f"{(max(memory) - memory[0]) / MIB:.0f} MiB more than after the first.\n"
    )
    parts += [f"Failed: {name}: {reason}\n" for name, reason in failed.items()]
    return "\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, write gpu.md and gpu.json; 1 where something failed or there is no card."""
    parser = argparse.ArgumentParser(prog="python -m tests.performance.gpu", description=__doc__)
    parser.add_argument("--model-dir", type=Path, default=default_model_dir())
    parser.add_argument("--run", type=Path, help="the training run of the model, to have PyTorch beside")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    options = parser.parse_args(arguments)
    folder = options.model_dir.resolve()
    try:
        manifest = read_model_folder(folder).manifest
        device = cuda_device(folder, manifest)
    except (ModelFolderError, ProviderUnavailable) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    memory = served_memory(folder, manifest)  # first: what later sessions keep does not count
    floors = measure_floors(device, COPY_BYTES, PRODUCT_SIZE)
    model = None
    if options.run is not None:
        model = TorchBackend(options.run).model.to(device.memory)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    every = jobs(folder, max(BATCHES))
    figures: list[Figure] = []
    failed: dict[str, str] = {}
    for job in every:
        print(f"measuring: {job.name}", file=sys.stderr)
        figures += climb(job, device, BATCHES, WAYS, model, TORCH_WAYS, failed)
    head = {
        "GPU": describe_card(),
        **describe_machine(),
        "torch": f"{torch.__version__}, CUDA {torch.version.cuda}",
        "model": manifest.id,
    }
    text = report(head, figures, floors, every, memory, failed)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "gpu.md").write_text(text)
    document = {
        "machine": head,
        "figures": [asdict(figure) for figure in figures],
        "floors": asdict(floors),
        "memory_bytes": memory,
        "failed": failed,
    }
    (options.out / "gpu.json").write_text(json.dumps(document, indent=1) + "\n")
    print(text)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
