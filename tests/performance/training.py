"""Bench of training (`python -m tests.performance.training`): the step's speed beside two usual ways."""

import argparse
import hashlib
import json
import os
import platform
import shutil
import site
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from app.images.arrays import ImageArray
from model_training.__main__ import CACHE
from model_training.data.dataset import SYNTHETIC, load
from model_training.distributed import World, world
from model_training.networks.loss import negative_elbo
from model_training.networks.vae import VAE
from model_training.recipe import Recipe
from model_training.torch_utils import has_bf16
from model_training.train import epoch_order, parallelise, training_step
from model_training.training_state import TrainingState
from tests.performance.bench.report import Summary, markdown_table, summarise
from tests.performance.bench.servers import PEERS, REPOSITORY
from tests.performance.machine import describe_machine

WARM_UP_STEPS = 3
IMAGES = 10_000
"""How many images the time for a whole training is reckoned for."""

OURS = "this repository"
COMPILED = "this repository, torch.compile"
PLAIN = "plain PyTorch loop, as tutorials write it"
PYTHAE = "pythae's BaseTrainer"

Steps = Callable[[int], None]
"""Does so many training steps and returns when the device has finished them."""
Clock = Callable[[], float]
"""Trains for a round and gives its seconds."""


@dataclass(frozen=True)
class Speed:
    """Images a second of one contestant in one round."""

    name: str
    round: int
    per_second: float


class Fitted(Dataset[Tensor]):
    """Images one at a time, as the usual transforms ToTensor and RandomHorizontalFlip give them."""

    def __init__(self, images: ImageArray) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        """(3, H, W) float32 in 0..1."""
        image = torch.from_numpy(self.images[index]).permute(2, 0, 1).contiguous().float().div(255)
        return image.flip(2) if torch.rand(1) < 0.5 else image


def own_steps(recipe: Recipe, images: ImageArray, here: World, *, compiled: bool) -> Steps:
    """The steps of `model_training.train`, on its data and in its order, in bfloat16 where it would."""
    state = TrainingState.start(recipe, here.device, images)
    network = parallelise(state.model, here, compiled)
    network.train()
    data = torch.from_numpy(images).to(here.device)
    batch_size = min(recipe.training.batch_size, len(images))
    steps_per_epoch = len(images) // batch_size
    bf16 = has_bf16(here.device)

    def run(steps: int) -> None:
        for _ in range(steps):
            order = epoch_order(recipe.seed, state.epoch, len(images)).to(here.device)
            batch = data[order[state.step * batch_size : (state.step + 1) * batch_size]]
            state.totals += training_step(state, network, batch, here, steps_per_epoch, bf16)
            state.epoch += (state.step + 1) // steps_per_epoch
            state.step = (state.step + 1) % steps_per_epoch
        state.totals.tolist()

    return run


def plain_steps(recipe: Recipe, images: ImageArray, here: World) -> Steps:
    """The loop of tutorials with this repository's network and loss: a DataLoader with its default workers,
    float32, channels first, Adam's defaults, every loss read."""
    torch.manual_seed(recipe.seed)
    model = VAE(recipe.model).to(here.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.training.learning_rate)
    batch_size = min(recipe.training.batch_size, len(images))
    batches = _endless(DataLoader(Fitted(images), batch_size, shuffle=True, drop_last=True))

    def run(steps: int) -> None:
        for _ in range(steps):
            batch = next(batches).to(here.device)
            noise = torch.randn(len(batch), recipe.model.latent_dim, device=here.device)
            output, posterior = model(batch, noise)
            loss = negative_elbo(output, batch, posterior, model.likelihood).total
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            loss.item()

    return run


def _endless(loader: DataLoader[Tensor]) -> Iterator[Tensor]:
    while True:
        yield from loader


def clock(run: Steps, steps: int) -> Clock:
    """Warm up, then time rounds of `steps` steps."""
    run(WARM_UP_STEPS)

    def seconds() -> float:
        began = time.perf_counter()
        run(steps)
        return time.perf_counter() - began

    return seconds


@contextmanager
def pythae_clock(recipe: Recipe, images: ImageArray, steps: int, cache: Path) -> Iterator[Clock]:
    """pythae in a process of its own, which waits while others are timed.

    Raises:
        RuntimeError: it ended; with the last line that it wrote.
        subprocess.CalledProcessError: it could not be installed.
    """
    python = pythae_python(cache)
    with tempfile.TemporaryDirectory(prefix="pythae-") as name:
        scratch = Path(name)
        np.save(scratch / "images.npy", images)
        (scratch / "recipe.json").write_text(json.dumps(recipe.to_dict()))
        command = [str(python), "-m", f"{PEERS}.pythae_trainer", "recipe.json", "images.npy", str(steps)]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        with (
            (scratch / "log").open("wb") as log,
            subprocess.Popen(
                command,
                cwd=scratch,
                env=environment,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            ) as process,
        ):
            assert process.stdin is not None
            assert process.stdout is not None
            to, answers = process.stdin, process.stdout

            def answer() -> str:
                line: str = answers.readline()
                if not line:
                    process.wait()
                    raise RuntimeError(f"pythae ended: {(scratch / 'log').read_text()[-200:].strip()}")
                return line

            def seconds() -> float:
                to.write("go\n")
                to.flush()
                return float(answer())

            try:
                answer()
                yield seconds
            finally:
                process.kill()


def pythae_python(cache: Path) -> Path:
    """The Python of pythae's virtual environment, which sees this environment's packages too; made where it
    is missing or outdated.

    Raises:
        subprocess.CalledProcessError: pip could not install the requirements.
    """
    requirements = Path(__file__).parent / "bench" / "peers" / "pythae_trainer.txt"
    folder = cache / "pythae"
    stamp = folder / "requirements.sha256"
    digest = hashlib.sha256(requirements.read_bytes() + sys.prefix.encode()).hexdigest()
    python = folder / "bin" / "python"
    if not stamp.is_file() or stamp.read_text() != digest:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
        subprocess.run([*pip, "-r", str(requirements)], check=True)
        own = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
        (Path(own) / "host.pth").write_text("\n".join(site.getsitepackages()) + "\n")
        stamp.write_text(digest)
    return python


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
