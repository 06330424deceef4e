"""`python -m tests.performance.gpu`: what a CUDA card does with the exported graphs, and what it could do."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from app.errors import ModelFolderError, ProviderUnavailable
from app.model.default_model import default_model_dir
from app.model.manifest import read_model_folder
from model_training.backends.torch_backend import TorchBackend
from tests.performance.bench.report import MIB, markdown_table
from tests.performance.gpu.calls import TORCH_WAYS, WAYS, Job, jobs
from tests.performance.gpu.card import cuda_device, describe_card
from tests.performance.gpu.floors import Floors, limits, measure_floors
from tests.performance.gpu.measure import MEMORY_BATCHES, Figure, climb, served_memory
from tests.performance.machine import describe_machine

BATCHES = tuple(1 << exponent for exponent in range(9))
COPY_BYTES = 1 << 28
PRODUCT_SIZE = 8192


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
