"""The training loop: step, evaluate, log, checkpoint."""

import logging
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from app.images.arrays import ImageArray
from model_training.data.augmentation import augment
from model_training.distributed import World, share_batch_norm
from model_training.networks.loss import Loss, negative_elbo
from model_training.networks.vae import VAE
from model_training.recipe import Recipe, TrainingConfig
from model_training.run_folder import LATEST
from model_training.run_log import RunLog
from model_training.torch_utils import seed_from, to_float, update_ema
from model_training.training_state import Training

log = logging.getLogger(__name__)

WARM_UP_STEPS = 100
CHECKPOINT_SECONDS = 60.0
EVALUATION_BATCH = 256


class Diverged(Exception):
    """The loss is no longer a finite number."""


class Interrupted(Exception):
    """Stopped by a signal, after saving."""


def train(
    recipe: Recipe,
    pixels: ImageArray,
    validation: ImageArray,
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
    with RunLog(out, training, steps, world.rank == 0) as report, _stop_flag() as stop:
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
    generator = torch.Generator(device).manual_seed(seed_from(training.recipe.seed, 1, number))
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
            update_ema(training.average, model, min(recipe.training.average, (number + 1) / (number + 10)))
        return torch.stack([*loss, (model.to_pictures(output) - pictures).square().mean()])


def _learning_rate(config: TrainingConfig, number: int, steps: int) -> float:
    """The learning rate of a step, counted from 0, of config.epochs * steps."""
    if config.schedule == "constant":
        return config.learning_rate
    rise = min(1.0, (number + 1) / WARM_UP_STEPS)
    fall = 0.5 * (1 + math.cos(math.pi * number / (config.epochs * steps)))
    return config.learning_rate * rise * fall


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


def _order(seed: int, epoch: int, count: int) -> Tensor:
    """The order of the pictures in an epoch."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed_from(seed, 0, epoch)))


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
