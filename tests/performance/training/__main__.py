"""Bench of training (`python -m tests.performance.training`): the step's speed beside two usual ways."""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from app.images.arrays import ImageArray
from model_training.__main__ import CACHE
from model_training.data.dataset import SYNTHETIC, load
from model_training.distributed import World, world
from model_training.recipe import Recipe
from model_training.torch_utils import has_bf16
from tests.performance.bench.report import Summary, markdown_table, summarise
from tests.performance.machine import describe_machine
from tests.performance.training.contestants import (
    WARM_UP_STEPS,
    Clock,
    clock,
    own_steps,
    plain_steps,
    pythae_clock,
)

IMAGES = 10_000
"""How many images the time for a whole training is reckoned for."""

OURS = "this repository"
COMPILED = "this repository, torch.compile"
PLAIN = "plain PyTorch loop, as tutorials write it"
PYTHAE = "pythae's BaseTrainer"


@dataclass(frozen=True)
class Speed:
    """Images a second of one contestant in one round."""

    name: str
    round: int
    per_second: float


def measure(clocks: Mapping[str, Clock], images: int, rounds: int, left_out: dict[str, str]) -> list[Speed]:
    """Rounds in which each contestant trains on so many images, each round in another order.

    Args:
        left_out: takes the contestants that failed, with the reason.
    """
    names, speeds = list(clocks), []
    for number in range(1, rounds + 1):
        start = number % len(names)
        for name in (*names[start:], *names[:start]):
            if name in left_out:
                continue
            try:
                speeds.append(Speed(name, number, images / clocks[name]()))
            except RuntimeError as error:
                left_out[name] = str(error)
    return speeds


def ratios(speeds: Sequence[Speed], ours: str, peer: str) -> Summary | None:
    """Our speed over the peer's, round by round; None where no round has both."""
    by_round = {(speed.name, speed.round): speed.per_second for speed in speeds}
    found = [
        by_round[ours, number] / value
        for (name, number), value in by_round.items()
        if name == peer and (ours, number) in by_round
    ]
    return summarise(found) if found else None


def table(speeds: Sequence[Speed], epochs: int) -> str:
    """A Markdown row for each contestant, the fastest first."""
    by_name: dict[str, list[float]] = {}
    for speed in speeds:
        by_name.setdefault(speed.name, []).append(speed.per_second)
    rows = []
    for name in sorted(by_name, key=lambda name: -summarise(by_name[name]).median):
        rate = summarise(by_name[name])
        beside = [ratios(speeds, ours, name) for ours in (OURS, COMPILED)]
        hours = epochs * IMAGES / rate.median / 3600
        rows.append([name, str(rate), *("" if one is None else str(one) for one in beside), f"{hours:.2f}"])
    header = [
        "trained by",
        "pictures/s",
        "ours / its",
        "ours compiled / its",
        f"hours for {epochs} epochs of {IMAGES:,}",
    ]
    return markdown_table(header, rows)


def describe_training(recipe: Recipe, images: ImageArray, here: World, steps: int) -> dict[str, str]:
    """The machine, the card where there is one, and what was trained."""
    card = {}
    if here.device.type == "cuda":
        card = {"GPU": f"{torch.cuda.get_device_name(here.device)}, CUDA {torch.version.cuda}"}
    height, width = images.shape[1:3]
    batch_size = min(recipe.training.batch_size, len(images))
    return {
        **describe_machine(),
        **card,
        "training": f"PyTorch {torch.__version__}, Python {platform.python_version()}, "
        f"{torch.get_num_threads()} threads, {'bfloat16' if has_bf16(here.device) else 'float32'} here",
        "recipe": f"{recipe.name}, {width} x {height}, batches of {batch_size}, {len(images)} pictures",
        "rounds of": f"{steps} steps, after {WARM_UP_STEPS} to warm up",
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write training.md and training.json; 1 where something was left out."""
    parser = argparse.ArgumentParser(prog="python -m tests.performance.training", description=__doc__)
    parser.add_argument("--recipe", default="seed", help="name of a recipe or path of a .toml file")
    parser.add_argument("--data", default=SYNTHETIC, help="folder of pictures, or drawn cars")
    parser.add_argument("--steps", type=int, default=10, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/training-speed"))
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "car-vae-bench"
    parser.add_argument("--cache", type=Path, default=default, help=f"for pythae's environment, {default}")
    options = parser.parse_args(arguments)
    try:
        recipe = Recipe.load(options.recipe)
        images = load(options.data, recipe.model.width, recipe.model.height, CACHE).images
    except ValueError as error:
        parser.error(str(error))
    left_out: dict[str, str] = {}
    clocks: dict[str, Clock] = {}
    with world("auto") as here, ExitStack() as stack:
        prepared: dict[str, Callable[[], Clock]] = {
            OURS: lambda: clock(own_steps(recipe, images, here, compiled=False), options.steps),
            COMPILED: lambda: clock(own_steps(recipe, images, here, compiled=True), options.steps),
            PLAIN: lambda: clock(plain_steps(recipe, images, here), options.steps),
            PYTHAE: lambda: stack.enter_context(pythae_clock(recipe, images, options.steps, options.cache)),
        }
        for name, prepare in prepared.items():
            print(f"preparing: {name}", file=sys.stderr)
            try:
                clocks[name] = prepare()
            except (RuntimeError, subprocess.CalledProcessError) as error:
                left_out[name] = str(error)
        batch_size = min(recipe.training.batch_size, len(images))
        speeds = measure(clocks, options.steps * batch_size, options.rounds, left_out)
        head = describe_training(recipe, images, here, options.steps)
    text = "# Training speed\n\n" + "".join(f"- {name}: {value}\n" for name, value in head.items())
    text += "\n" + table(speeds, recipe.training.epochs)
    text += "".join(f"\nLeft out: {name}: {reason}\n" for name, reason in left_out.items())
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "training.md").write_text(text)
    document = {"machine": head, "speeds": [asdict(speed) for speed in speeds], "left_out": left_out}
    (options.out / "training.json").write_text(json.dumps(document, indent=1) + "\n")
    print(text)
    return 1 if left_out else 0


if __name__ == "__main__":
    sys.exit(main())
