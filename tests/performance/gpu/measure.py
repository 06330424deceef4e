"""Speed and parity of every way at every batch size, and the memory that the service's sessions keep."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch

from app.inference.session import (
    BATCH_ROWS,
    Session,
    SessionSpec,
    decoder_graph,
    encoder_graph,
    open_sessions,
)
from app.model.manifest import Manifest, read_model_file
from model_training.networks.vae import VAE
from tests.performance.bench.report import Summary, summarise
from tests.performance.gpu.calls import (
    TORCH_MODULES,
    WAYS,
    Array,
    BoundCall,
    Call,
    Device,
    Job,
    Way,
    open_graphs,
    plain_call,
    torch_call,
)

ROUNDS = 5
ROUND_SECONDS = 0.2
WARM_UP_CALLS = 5
"""CUDA graphs are captured after two ordinary runs."""

MEMORY_BLOCKS, MEMORY_BATCHES = 6, 50


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
