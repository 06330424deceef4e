"""python -m tests.deployment.settings_reference writes the settings to docker/README.md and .env.example."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import wrap
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from app.settings import Settings

ROOT = Path(__file__).parent.parent.parent

WHEN_TO_CHANGE = {
    "model_dir": "To serve another model or version.",
    "older_models": "When another model is served than links have been made with; see "
    "[versioning.md](../docs/versioning.md#when-another-model-is-served).",
    "device": "`cuda` on machines with a GPU, so that a broken driver is found at the start.",
    "precision": "`fp32` where pictures are to be the same on every machine, to the grey level; `int8` where "
    "speed counts for more than latents that are. `files.int8.loss` in model.json says what it costs.",
    "refine": "`false` where memory or CPU is too short for it.",
    "refine_queue_rows": "Lower to refuse early: each takes some 15 ms of a core that nothing else wants.",
    "device_id": "With several GPUs that one process sees; a container is better given one.",
    "gpu_mem_limit": "When other programs share the GPU.",
    "host": "The images set 0.0.0.0. Leave it in a container.",
    "port": "Outside containers, when the port is taken. In a container leave it and publish another.",
    "workers": "Without a GPU: one per core the container may use. With a GPU leave it at 1.",
    "threads": "Only for the latency of single requests on an idle CPU; for throughput raise `workers`.",
    "picture_threads": "With a GPU: up to the number of cores, when `decode` or `encode` takes longest.",
    "max_items": "Lower it where large requests hold up small ones.",
    "max_body_bytes": "For larger uploads. Compose gives it to its load balancer too; tell your own.",
    "max_held_bytes": "With the memory limit: it bounds what many uploads at once can take.",
    "max_pixels": "For larger pictures. While it is decoded a picture takes 3 bytes a pixel.",
    "max_output_pixels": "For larger grids and animations.",
    "body_timeout": "For clients on slow lines.",
    "header_timeout": "For clients on slow lines, behind no load balancer of yours.",
    "send_timeout": "For clients on slow lines, behind no load balancer of yours.",
    "keep_alive_timeout": "Above the idle time of a load balancer's connections, or it meets closed ones.",
    "max_connections": "With the limit of open files, when many clients keep connections open.",
    "decode_timeout": "With `max_pixels`, on slow machines.",
    "max_batch_rows": "With a GPU: higher for throughput, when the batches are full.",
    "queue_rows": "Lower to refuse early, higher to ride out bursts. Never below `max_items`.",
    "queue_timeout": "To what your clients are willing to wait.",
    "drain_timeout": "With the time the orchestrator allows: Compose's `STOP_GRACE_PERIOD`, Kubernetes' "
    "`terminationGracePeriodSeconds`, which must be longer.",
    "api_keys": "Wherever strangers can reach the service. To change a key, list both for a while.",
    "api_keys_file": "Where keys are mounted as a file rather than set as variables.",
    "cors_origins": "When pages of other sites are to call the service.",
    "serve_decoder": "When pages or programs of your clients are to decode by themselves, a frame of a "
    "morph without a request; mind the terms of the model's weights.",
    "tracing": "Where a collector is; see [Traces](#traces).",
    "log_format": "`json` where a program reads the logs.",
    "log_level": "`debug` to look for a fault, `warning` for quiet logs.",
}


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"CAR_VAE_{name.upper()}"


def default_of(field: FieldInfo) -> str:
    """A setting's default as one would write it in the environment; empty where it has none."""
    value: Any = field.default
    if value is None or field.default_factory is not None:
        return ""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def table() -> str:
    """A Markdown table of all settings."""
    rows = ["| setting | default | what it is | when to change it |", "| --- | --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = default_of(field)
        choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        cells = (
            f"`{variable(name)}`",
            (f"`{default}`" if default else "unset") + (f" of {', '.join(choices)}" if choices else ""),
            str(field.description),
            WHEN_TO_CHANGE[name],
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def example() -> str:
    """The settings as lines of an .env file, each with its default and switched off."""
    lines = []
    for name, field in Settings.model_fields.items():
        if name in ("host", "port"):  # a container's own, which nothing outside depends on
            continue
        lines += ["", *(f"# {line}" for line in wrap(str(field.description), 108))]
        lines.append(f"#{variable(name)}={default_of(field)}")
    return "\n".join(lines)


GENERATED: Mapping[Path, tuple[str, Callable[[], str], str]] = {
    ROOT / "docker" / "README.md": ("<!-- settings -->\n", table, "\n<!-- end of settings -->"),
    ROOT / ".env.example": ("# The service.\n", example, "\n\n# Docker Compose.\n"),
}


def updated(path: Path) -> str:
    """The text that a file of GENERATED ought to have."""
    start, render, end = GENERATED[path]
    pattern = f"(?<={re.escape(start)}).*(?={re.escape(end)})"
    text, count = re.subn(pattern, lambda _: render(), path.read_text(), flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"{path} has lost its marks {start!r} and {end!r}")
    return text


if __name__ == "__main__":
    for each in GENERATED:
        each.write_text(updated(each))
