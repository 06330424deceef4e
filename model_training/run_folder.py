"""The training loop: step, evaluate, log, checkpoint."""

import copy
import json
import logging
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from app.images import Pixels
from model_training import checkpoint
from model_training.augmentation import augment
from model_training.config import Recipe, TrainingConfig
from model_training.distributed import World, share_batch_norm
from model_training.loss import Loss, negative_elbo
from model_training.model import VAE

log = logging.getLogger(__name__)

LATEST = "checkpoint.pt"
BEST = "best.pt"
METRICS = "metrics.jsonl"

READ_BACK_STEPS = 50
"""Losses stay on the device and are read this often: reading each would make a GPU wait for the host."""

WARM_UP_STEPS = 100
CHECKPOINT_SECONDS = 60.0
EVALUATION_BATCH = 256
SHOWN_PICTURES = 16


class Diverged(Exception):
    """The loss is no longer a finite number."""


class Interrupted(Exception):
    """Stopped by a signal, after saving."""


@dataclass
class Training:
    """What a run changes as it goes; all of it is in a checkpoint."""

    recipe: Recipe
    model: VAE
    optimizer: torch.optim.Adam
    totals: Tensor
    """Sums over this epoch's steps so far: total, reconstruction, KL (nats a picture) and squared error."""
    epoch: int = 0
    """Epochs completed."""
    step: int = 0
    """Steps completed in the present epoch."""
    average: VAE | None = None
    """The moving average of the model, where the recipe wants one."""
    best: dict[str, Any] | None = field(default=None)
    """The model with the lowest validation loss, where it is not yet on disk."""
    best_loss: float = math.inf

    @classmethod
    def start(cls, recipe: Recipe, device: torch.device, pixels: Pixels | None = None) -> "Training":
        """A fresh run. The weights depend on the recipe's seed and on the pictures that they begin from.

        Args:
            pixels: (N, height, width, 3) uint8; None where the weights will be read from a checkpoint.
        """
        torch.manual_seed(recipe.seed)
        model = VAE(recipe.model)
        if pixels is not None:
            model.begin_from(pixels)
        model = model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        groups = _parameter_groups(model, recipe.training)
        optimizer = torch.optim.Adam(groups, lr=recipe.training.learning_rate, fused=True)
        average = copy.deepcopy(model).requires_grad_(False) if recipe.training.average else None
        return cls(recipe, model, optimizer, torch.zeros(4, device=device), average=average)

    @classmethod
    def resume(cls, path: Path, recipe: Recipe, device: torch.device) -> "Training":
        """Go on from a checkpoint.

        Raises:
            ValueError: no checkpoint, or one of another recipe (only the number of epochs may differ).
        """
        state = checkpoint.load(path)
        saved = Recipe.from_dict(state["recipe"])
        if saved.with_epochs(recipe.training.epochs) != recipe:
            raise ValueError(
                f"{path} was trained by another recipe; resume with that one or choose another --out"
            )
        training = cls.start(recipe, device)
        training.model.load_state_dict(state["model"])
        training.optimizer.load_state_dict(state["optimizer"])
        if training.average is not None:
            training.average.load_state_dict(state["average"])
        training.totals.copy_(state["totals"])
        training.epoch, training.step, training.best_loss = state["epoch"], state["step"], state["best_loss"]
        return training

    @property
    def result(self) -> VAE:
        """The model to validate and export."""
        return self.model if self.average is None else self.average

    def save(self, out: Path) -> None:
        """Write the newest state, and the best model where it is new."""
        if self.best is not None:
            checkpoint.save(out / BEST, self.best)
            self.best = None
        checkpoint.save(
            out / LATEST,
            {
                "recipe": self.recipe.to_dict(),
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": None if self.average is None else self.average.state_dict(),
                "totals": self.totals,
                "epoch": self.epoch,
                "step": self.step,
                "best_loss": self.best_loss,
            },
        )


def train(
    recipe: Recipe,
    pixels: Pixels,
    validation: Pixels,
    out: Path,
    world: World,
    *,
    resume: bool = False,
    compiled: bool = False,
    bf16: bool = False,
) -> dict[str, float]:
    """Train to the recipe's last epoch.

    Args:
        pixels, validation: (N, height, width, 3) uint8.
        out: folder of the run: checkpoint.pt, best.pt, metrics.jsonl, tensorboard/.
        resume: go on from out/checkpoint.pt.
        compiled: run the model through torch.compile.
        bf16: multiply in bfloat16; the loss, the weights and the evaluation stay in float32.

    Returns:
        the last epoch's metrics.

    Raises:
        Diverged: the loss became NaN or infinite; the last good checkpoint is kept.
        Interrupted: SIGINT or SIGTERM came; the state is saved first.
        ValueError: data and recipe do not go together, or there is nothing to resume.
    """
    batch_size = min(recipe.training.batch_size, len(pixels)) // world.size * world.size
    if batch_size < 2 * world.size:
        raise ValueError(f"{len(pixels)} pictures are too few to train on in {world.size} processes")
    training = (
        Training.resume(out / LATEST, recipe, world.device)
        if resume
        else Training.start(recipe, world.device, pixels)
    )
    data = torch.from_numpy(pixels).to(world.device)
    held_out = torch.from_numpy(validation).to(world.device)
    network = _network(training.model, world, compiled)
    steps = len(pixels) // batch_size
    started, seen = time.perf_counter(), 0
    saved_at = started
    metrics: dict[str, float] = {}
    with _Log(out, training, steps, world.rank == 0) as report, _stop_flag() as stop:
        while training.epoch < recipe.training.epochs:
            order = _order(recipe.seed, training.epoch, len(pixels)).to(world.device)
            network.train()
            while training.step < steps:
                batch = data[order[training.step * batch_size : (training.step + 1) * batch_size]]
                training.totals += _step(training, network, batch, world, steps, bf16)
                training.step += 1
                seen += batch_size
                report.step(training)
                if stop and world.size == 1:
                    training.save(out)
                    raise Interrupted(f"stopped in epoch {training.epoch + 1}; --resume goes on from there")
            metrics = _end_epoch(training, held_out, world, steps)
            if world.rank == 0:
                report.epoch(training, metrics)
            stopping = world.any(bool(stop))
            finished = training.epoch == recipe.training.epochs
            if world.rank == 0 and (
                finished or stopping or time.perf_counter() - saved_at > CHECKPOINT_SECONDS
            ):
                training.save(out)
                report.pictures(training, held_out)
                saved_at = time.perf_counter()
            if stopping and not finished:
                raise Interrupted(f"stopped after epoch {training.epoch}; --resume goes on from there")
        if world.device.type == "cuda":
            torch.cuda.synchronize()
    log.info("%.0f pictures/s", seen / (time.perf_counter() - started))
    return metrics


def validate(model: VAE, pixels: Tensor) -> dict[str, float]:
    """Loss with seeded draws, and quality of the reconstructions from the mean, in float32.

    Args:
        pixels: (N, height, width, 3) uint8 on the model's device.

    Returns:
        loss, reconstruction and kl in nats per picture, psnr in dB (mean of the pictures' own). The variance
        of a Gaussian is calibrated on each EVALUATION_BATCH.
    """
    generator = torch.Generator(pixels.device).manual_seed(0)
    sums = torch.zeros(4, dtype=torch.float64, device=pixels.device)
    model.eval()
    with torch.inference_mode():
        for chunk in torch.split(pixels, EVALUATION_BATCH):
            pictures = to_float(chunk)
            noise = torch.randn(
                len(chunk), model.config.latent_dim, generator=generator, device=pixels.device
            )
            output, posterior = model(pictures, noise)
            loss = negative_elbo(output, pictures, posterior, model.likelihood)
            errors = (model.to_pictures(model.decoder(posterior.mean)) - pictures).square().mean((1, 2, 3))
            sums += torch.stack([*(part * len(chunk) for part in loss), (-10 * errors.log10()).sum()])
    total, reconstruction, kl, psnr = (sums / len(pixels)).tolist()
    return {"loss": total, "reconstruction": reconstruction, "kl": kl, "psnr": psnr}


def to_float(pixels: Tensor) -> Tensor:
    """(N, height, width, 3) uint8 -> (N, 3, height, width) float32 in 0..1, channels last in memory."""
    return pixels.permute(0, 3, 1, 2).float() / 255


def _network(model: VAE, world: World, compiled: bool) -> nn.Module:
    network: nn.Module = model
    if world.size > 1:
        share_batch_norm(model)
        network = DistributedDataParallel(model)
    if compiled:
        network.compile()
    return network


def _step(
    training: Training, network: nn.Module, batch: Tensor, world: World, steps: int, bf16: bool
) -> Tensor:
    """One optimiser step; its losses and squared error stay on the device, (4,) float32.

    Flips and noise come from a generator seeded by the step's number and are drawn for the global batch: a
    resumed run, and one over several processes, draws what an unbroken run in one process would.
    """
    device = world.device
    number = training.epoch * steps + training.step
    generator = torch.Generator(device).manual_seed(_mix(training.recipe.seed, 1, number))
    recipe, model = training.recipe, training.model
    flips = torch.rand(len(batch), 1, 1, 1, generator=generator, device=device) < 0.5
    noise = torch.randn(len(batch), recipe.model.latent_dim, generator=generator, device=device)
    pictures = to_float(torch.where(flips, batch.flip(2), batch))
    if recipe.training.augment:
        pictures = augment(pictures, generator)
    pictures = world.share(pictures)
    for group in training.optimizer.param_groups:
        group["lr"] = group["rate"] * _learning_rate(recipe.training, number, steps)
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        output, posterior = network(pictures, world.share(noise))
    loss = negative_elbo(output, pictures, posterior, model.likelihood, world.mean)
    training.optimizer.zero_grad(set_to_none=True)
    loss.total.backward()  # type: ignore[no-untyped-call]
    training.optimizer.step()
    with torch.no_grad():
        if training.average is not None:
            _average(training.average, model, min(recipe.training.average, (number + 1) / (number + 10)))
        return torch.stack([*loss, (model.to_pictures(output) - pictures).square().mean()])


def _parameter_groups(model: VAE, config: TrainingConfig) -> list[dict[str, Any]]:
    """The linear codec and everything else, each with the fraction of the learning rate it learns at."""
    linear = model.linear_parameters()
    chosen = {id(parameter) for parameter in linear}
    others = [parameter for parameter in model.parameters() if id(parameter) not in chosen]
    groups = [{"params": others, "rate": 1.0}, {"params": linear, "rate": config.linear_rate}]
    return [group for group in groups if group["params"]]


def _learning_rate(config: TrainingConfig, number: int, steps: int) -> float:
    """The learning rate of a step, counted from 0, of config.epochs * steps."""
    if config.schedule == "constant":
        return config.learning_rate
    rise = min(1.0, (number + 1) / WARM_UP_STEPS)
    fall = 0.5 * (1 + math.cos(math.pi * number / (config.epochs * steps)))
    return config.learning_rate * rise * fall


def _average(average: VAE, model: VAE, decay: float) -> None:
    """Move the average a little towards the model; counters are taken over as they are."""
    pairs = zip(average.state_dict().values(), model.state_dict().values(), strict=True)
    for mean, value in pairs:
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


def _end_epoch(training: Training, held_out: Tensor, world: World, steps: int) -> dict[str, float]:
    """Close the epoch: read the sums, validate, remember the best model."""
    total, reconstruction, kl, squared_error = (world.mean(training.totals) / steps).tolist()
    training.totals.zero_()
    training.epoch, training.step = training.epoch + 1, 0
    if not math.isfinite(total):
        raise Diverged(
            f"the loss is {total} in epoch {training.epoch}; the last good checkpoint is kept. "
            "A lower learning rate usually helps"
        )
    validation = validate(training.result, held_out)
    if validation["loss"] < training.best_loss:
        training.best_loss = validation["loss"]
        training.best = {
            "recipe": training.recipe.to_dict(),
            "model": {name: value.detach().clone() for name, value in training.result.state_dict().items()},
            "epoch": training.epoch,
            "validation": validation,
        }
    return {
        **Loss(total, reconstruction, kl)._asdict(),
        "psnr": -10 * math.log10(squared_error),
        **{f"validation_{name}": value for name, value in validation.items()},
    }


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16, so that it pays."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def _order(seed: int, epoch: int, count: int) -> Tensor:
    """The order of the pictures in an epoch."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(_mix(seed, 0, epoch)))


def _mix(*numbers: int) -> int:
    """A seed from several numbers, without the overlaps that adding them would give."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1


@contextmanager
def _stop_flag() -> Iterator[list[int]]:
    """A list that fills when SIGINT or SIGTERM comes; a second SIGINT interrupts at once."""
    received: list[int] = []

    def remember(number: int, _frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Log:
    """Progress bar, JSON lines and TensorBoard of a run; silent where `active` is false."""

    def __init__(self, out: Path, training: Training, steps: int, active: bool) -> None:
        self.active = active
        self.steps = steps
        total = training.recipe.training.epochs * steps
        done = training.epoch * steps + training.step
        self.bar = tqdm(
            total=total, initial=done, unit="step", disable=None if active else True, smoothing=0.02
        )
        if active:
            out.mkdir(parents=True, exist_ok=True)
            _keep_epochs(out / METRICS, training.epoch)
            self.lines = (out / METRICS).open("a", buffering=1)
            self.board = SummaryWriter(str(out / "tensorboard"), purge_step=training.epoch + 1)

    def __enter__(self) -> "_Log":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        if self.active:
            self.lines.close()
            self.board.close()

    def step(self, training: Training) -> None:
        self.bar.update()
        if training.step % READ_BACK_STEPS == 0 and not self.bar.disable:
            total, reconstruction, kl, squared_error = (training.totals / training.step).tolist()
            psnr = -10 * math.log10(squared_error) if squared_error > 0 else math.nan
            self.bar.set_postfix_str(
                f"loss {total:.1f} = {reconstruction:.1f} + KL {kl:.1f}, PSNR {psnr:.2f} dB", refresh=False
            )

    def epoch(self, training: Training, metrics: dict[str, float]) -> None:
        self.lines.write(json.dumps({"epoch": training.epoch, **metrics}) + "\n")
        for name, value in metrics.items():
            self.board.add_scalar(name, value, training.epoch)
        if self.bar.disable:
            log.info(
                "epoch %d: loss %.1f, validation loss %.1f, validation PSNR %.2f dB",
                training.epoch,
                metrics["total"],
                metrics["validation_loss"],
                metrics["validation_psnr"],
            )

    def pictures(self, training: Training, held_out: Tensor) -> None:
        """Originals, their reconstructions and samples of the standard prior, for TensorBoard."""
        model = training.result.eval()
        shown = to_float(held_out[:SHOWN_PICTURES])
        generator = torch.Generator(shown.device).manual_seed(0)
        noise = torch.randn(len(shown), model.config.latent_dim, generator=generator, device=shown.device)
        with torch.inference_mode():
            reconstructions = model.to_pictures(model.decoder(model.encoder(shown).mean))
            samples = model.to_pictures(model.decoder(noise))
        for name, batch in (("originals", shown), ("reconstructions", reconstructions), ("samples", samples)):
            self.board.add_images(name, batch, training.epoch)


def _keep_epochs(path: Path, epochs: int) -> None:
    """Drop the lines of later epochs, which a resumed run writes again."""
    if path.is_file():
        lines = [line for line in path.read_text().splitlines() if json.loads(line)["epoch"] <= epochs]
        path.write_text("".join(line + "\n" for line in lines))
