"""Report of the day: outcomes of its steps -> Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.performance.bench.report import markdown_table
from tests.performance.gpu_day.steps import Outcome, Step

MACHINE = "machine"


def markdown(steps: Sequence[Step], outcomes: Mapping[str, Outcome], title: str) -> str:
    """The machine, how each step ended, then what was found."""
    head = outcomes[MACHINE].figures if MACHINE in outcomes else {}
    parts = [f"# {title}\n", *(f"- {name}: {value}" for name, value in head.items()), ""]
    rows = []
    for step in steps:
        found = outcomes.get(step.name)
        if found is None:
            rows.append([step.name, "not begun", "", "", ""])
        else:
            took = [f"{found.seconds:.0f}", f"{found.limit:.0f}"]
            rows.append([step.name, f"**{found.status}**", *took, found.detail.replace("|", "/")])
    parts += ["## Steps\n", markdown_table(["step", "outcome", "seconds", "of at most", "why"], rows)]
    for kind, heading, table in (
        ("train", "Training", _training),
        ("finetune", "Fine-tuning", _part_of_steps),
        ("prior", "Prior", _part_of_steps),
        ("parity", "Parity with the CPU", _parity),
        ("service", "The service", _service),
    ):
        own = {
            name.removeprefix(f"{kind}-"): {**outcome.figures, "seconds": outcome.seconds}
            for name, outcome in outcomes.items()
            if name.startswith(f"{kind}-") and outcome.figures
        }
        if own:
            parts += [f"## {heading}\n", table(own)]
    return "\n".join(parts)


def _training(found: Mapping[str, Mapping[str, Any]]) -> str:
    header = ["recipe", "epochs", "of", "seconds, all told", "best epoch", "its PSNR, dB", "its loss, nats"]
    rows = [
        [
            name,
            str(own["epochs"]),
            str(own["of"]),
            f"{own['seconds']:.0f}",
            str(own["best_epoch"]),
            f"{own['validation_psnr']:.2f}",
            f"{own['validation_loss']:.0f}",
        ]
        for name, own in found.items()
    ]
    return markdown_table(header, rows)


def _part_of_steps(found: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        [
            name,
            str(own["steps"]),
            str(own["of"]),
            f"{own['seconds']:.0f}",
            f"{own['seconds'] * own['of'] / own['steps'] / 60:.0f}",
        ]
        for name, own in found.items()
    ]
    return markdown_table(["recipe", "steps", "of", "seconds", "all of them at most, minutes"], rows)


def _parity(found: Mapping[str, Mapping[str, Any]]) -> str:
    header = ["model", "provider", "mean", "log-variance", "grey levels", "latent, alone and in a batch"]
    rows = [
        [
            name,
            own["provider"],
            f"{own['encoder_mean']:.2g}",
            f"{own['encoder_log_variance']:.2g}",
            str(own["decoder_grey_levels"]),
            f"{own['batch_deviation']:.2g}",
        ]
        for name, own in found.items()
    ]
    return markdown_table(header, rows)


def _service(found: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        [
            f"{name}, {workload}",
            own["provider"],
            f"{measured['requests_per_second']:,.0f}",
            f"{measured['p50_ms']:.1f}",
            f"{measured['p99_ms']:.1f}",
            f"{measured['cpu_ms']:.2f}",
        ]
        for name, own in found.items()
        for workload, measured in own["workloads"].items()
    ]
    text = "32 connections from one Python process on the same machine, which bounds the requests/s.\n\n"
    return text + markdown_table(["model, workload", "provider", "req/s", "p50 ms", "p99 ms", "CPU ms"], rows)
