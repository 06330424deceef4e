"""Ways to train the same network on the same images: this repository's, a tutorial's loop, and pythae."""

import hashlib
import json
import os
import shutil
import site
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from app.images.arrays import ImageArray
from model_training.distributed import World
from model_training.networks.loss import negative_elbo
from model_training.networks.vae import VAE
from model_training.recipe import Recipe
from model_training.torch_utils import has_bf16
from model_training.train import epoch_order, parallelise, training_step
from model_training.training_state import TrainingState
from tests.performance.bench.servers import PEERS, REPOSITORY

WARM_UP_STEPS = 3

Steps = Callable[[int], None]
"""Does so many training steps and returns when the device has finished them."""
Clock = Callable[[], float]
"""Trains for a round and gives its seconds."""


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
    requirements = Path(__file__).parents[1] / "bench" / "peers" / "pythae_trainer.txt"
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
