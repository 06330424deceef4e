"""Training loop: optimiser steps, then after each epoch validation, log and checkpoint."""

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
from model_training.distributed import World, sync_batch_norm
from model_training.networks.loss import Loss, negative_elbo
from model_training.networks.vae import VAE
from model_training.recipe import Recipe, TrainingConfig
from model_training.run_folder import LATEST
from model_training.run_log import RunLog
from model_training.torch_utils import cosine_with_warm_up, seed_from, to_float, update_ema
from model_training.training_state import TrainingState

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
    images: ImageArray,
    validation: ImageArray,
    out: Path,
    world: World,
    *,
    resume: bool = False,
    compiled: bool = False,
    bf16: bool = False,
) -> dict[str, float]:
    """Train a VAE to the recipe's last epoch.

    Args:
        images, validation: (N, height, width, 3) uint8.
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
    batch_size = min(recipe.training.batch_size, len(images)) // world.size * world.size
    if batch_size < 2 * world.size:
        raise ValueError(f"{len(images)} pictures are too few to train on in {world.size} processes")
    state = (
        TrainingState.resume(out / LATEST, recipe, world.device)
        if resume
        else TrainingState.start(recipe, world.device, images)
    )
    data = torch.from_numpy(images).to(world.device)
    held_out = torch.from_numpy(validation).to(world.device)
    network = parallelise(state.model, world, compiled)
    steps_per_epoch = len(images) // batch_size
    started, seen = time.perf_counter(), 0
    saved_at = started
    metrics: dict[str, float] = {}
    with RunLog(out, state, steps_per_epoch, world.rank == 0) as run_log, _stop_flag() as stop:
        while state.epoch < recipe.training.epochs:
            order = epoch_order(recipe.seed, state.epoch, len(images)).to(world.device)
            network.train()
            while state.step < steps_per_epoch:
                batch = data[order[state.step * batch_size : (state.step + 1) * batch_size]]
                state.totals += training_step(state, network, batch, world, steps_per_epoch, bf16)
                state.step += 1
                seen += batch_size
                run_log.log_step(state)
                if stop and world.size == 1:
                    state.save(out)
                    raise Interrupted(f"stopped in epoch {state.epoch + 1}; --resume goes on from there")
            metrics = _end_epoch(state, held_out, world, steps_per_epoch)
            if world.rank == 0:
                run_log.log_epoch(state, metrics)
            stopping = world.any(bool(stop))
            finished = state.epoch == recipe.training.epochs
            if world.rank == 0 and (
                finished or stopping or time.perf_counter() - saved_at > CHECKPOINT_SECONDS
            ):
                state.save(out)
                run_log.log_images(state, held_out)
                saved_at = time.perf_counter()
            if stopping and not finished:
                raise Interrupted(f"stopped after epoch {state.epoch}; --resume goes on from there")
        if world.device.type == "cuda":
            torch.cuda.synchronize()
    log.info("%.0f pictures/s", seen / (time.perf_counter() - started))
    return metrics


def validate(model: VAE, images: Tensor) -> dict[str, float]:
    """Loss with seeded draws, and quality of the reconstructions from the mean, in float32.

    Args:
        images: (N, height, width, 3) uint8 on the model's device.

    Returns:
        loss, reconstruction and kl in nats per image, psnr in dB (mean of the images' own). The variance
        of a Gaussian is calibrated on each EVALUATION_BATCH.
    """
    generator = torch.Generator(images.device).manual_seed(0)
    sums = torch.zeros(4, dtype=torch.float64, device=images.device)
    model.eval()
    with torch.inference_mode():
        for chunk in torch.split(images, EVALUATION_BATCH):
            batch = to_float(chunk)
            noise = torch.randn(
                len(batch), model.config.latent_dim, generator=generator, device=images.device
            )
            output, posterior = model(batch, noise)
            loss = negative_elbo(output, batch, posterior, model.likelihood)
            errors = (model.to_images(model.decoder(posterior.mean)) - batch).square().mean((1, 2, 3))
            sums += torch.stack([*(part * len(batch) for part in loss), (-10 * errors.log10()).sum()])
    total, reconstruction, kl, psnr = (sums / len(images)).tolist()
    return {"loss": total, "reconstruction": reconstruction, "kl": kl, "psnr": psnr}


def parallelise(model: VAE, world: World, compiled: bool) -> nn.Module:
    """The model as it is stepped: over all processes, compiled or not; its weights are the model's own."""
    network: nn.Module = model
    if world.size > 1:
        network = DistributedDataParallel(sync_batch_norm(model, world))
    if compiled:
        network.compile()
    return network


def training_step(
    state: TrainingState, network: nn.Module, batch: Tensor, world: World, steps_per_epoch: int, bf16: bool
) -> Tensor:
    """One optimiser step; its losses and squared error stay on the device, (4,) float32.

    Flips and noise come from a generator seeded by the step's number and are drawn for the global batch: a
    resumed run, and one over several processes, draws what an unbroken run in one process would.
    """
    device = world.device
    number = state.epoch * steps_per_epoch + state.step
    generator = torch.Generator(device).manual_seed(seed_from(state.recipe.seed, 1, number))
    recipe, model = state.recipe, state.model
    flips = torch.rand(len(batch), 1, 1, 1, generator=generator, device=device) < 0.5
    noise = torch.randn(len(batch), recipe.model.latent_dim, generator=generator, device=device)
    images = to_float(torch.where(flips, batch.flip(2), batch))
    if recipe.training.augment:
        images = augment(images, generator)
    images = world.shard(images)
    for group in state.optimizer.param_groups:
        group["lr"] = group["rate"] * learning_rate(recipe.training, number, steps_per_epoch)
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        output, posterior = network(images, world.shard(noise))
    loss = negative_elbo(output, images, posterior, model.likelihood, world.all_reduce_mean)
    state.optimizer.zero_grad(set_to_none=True)
    loss.total.backward()  # type: ignore[no-untyped-call]
    state.optimizer.step()
    with torch.no_grad():
        if state.average is not None:
            update_ema(state.average, model, recipe.training.average, number)
        return torch.stack([*loss, (model.to_images(output) - images).square().mean()])


def learning_rate(config: TrainingConfig, step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step, counted from 0 over all epochs."""
    if config.schedule == "constant":
        return config.learning_rate
    return cosine_with_warm_up(config.learning_rate, step, config.epochs * steps_per_epoch, WARM_UP_STEPS)


def _end_epoch(
    state: TrainingState, held_out: Tensor, world: World, steps_per_epoch: int
) -> dict[str, float]:
    """Close the epoch: read the sums, validate, remember the best model."""
    total, reconstruction, kl, squared_error = (
        world.all_reduce_mean(state.totals) / steps_per_epoch
    ).tolist()
    state.totals.zero_()
    state.epoch, state.step = state.epoch + 1, 0
    if not math.isfinite(total):
        raise Diverged(
            f"the loss is {total} in epoch {state.epoch}; the last good checkpoint is kept. "
            "A lower learning rate usually helps"
        )
    validation = validate(state.result, held_out)
    if validation["loss"] < state.best_loss:
        state.best_loss = validation["loss"]
        state.best = {
            "recipe": state.recipe.to_dict(),
            "model": {name: value.detach().clone() for name, value in state.result.state_dict().items()},
            "epoch": state.epoch,
            "validation": validation,
        }
    return {
        **Loss(total, reconstruction, kl)._asdict(),
        "psnr": -10 * math.log10(squared_error),
        **{f"validation_{name}": value for name, value in validation.items()},
    }


def epoch_order(seed: int, epoch: int, count: int) -> Tensor:
    """A permutation: the order of the images in an epoch."""
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
