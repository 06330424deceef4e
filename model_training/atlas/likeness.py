"""Fit of the likeness: a small network that tells latents of cars from latents of everything else.

What is far from cars is not far out in latent space: 256 numbers of which each is a plausible one say little
of whether they go together, and the prior's density does not either (see docs/experiments.md).
"""

import logging
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from app.images.arrays import ImageArray
from app.model.atlas import Likeness
from model_training.atlas.strangers import strangers
from model_training.backends.base import Backend, Floats

log = logging.getLogger(__name__)

WIDTHS = (128, 64)
STEPS = 4000
BATCH = 192
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.05
DROPOUT = 0.2
NOISE = 0.4
"""Added to whitened latents of both kinds, so that it learns no single image."""
ROUNDS = 3
"""Times that strangers are made of each image."""
FALSE_ALARMS = 0.006
"""Share of held-out cars below the limit."""


class Standard(NamedTuple):
    """What gives latents mean 0 and covariance 1: mean (L,) and matrix (L, L)."""

    mean: NDArray[np.float64]
    matrix: NDArray[np.float64]


def fit_likeness(
    backend: Backend, cars: ImageArray, held_out: ImageArray, steps: int = STEPS, seed: int = 0
) -> Likeness:
    """Teach a network on cars (N, height, width, 3), their mirrored selves, and what is made of them.

    Its 0.5 lies where FALSE_ALARMS of the held-out images are below it. The same arguments give the same
    network.
    """
    mirrored = np.ascontiguousarray(cars[:, :, ::-1])
    known = np.concatenate([backend.encode(cars)[0], backend.encode(mirrored)[0]])
    made = [backend.encode(strangers(cars, seed + number))[0] for number in range(ROUNDS)]
    standard = _standard(known)
    network = _teach(_whitened(standard, known), _whitened(standard, np.concatenate(made)), steps, seed)
    layers = _folded(network, standard)
    held = _logits(layers, backend.encode(held_out)[0])
    weight, bias = layers[-1]
    layers[-1] = weight, (bias - np.quantile(held, FALSE_ALARMS)).astype(np.float32)
    return Likeness(layers)


def _standard(latents: Floats) -> Standard:
    mean = latents.mean(axis=0, dtype=np.float64)
    values, vectors = np.linalg.eigh(np.cov(latents.T.astype(np.float64)))
    return Standard(mean, vectors / np.sqrt(np.maximum(values, values.max() * 1e-9)))


def _whitened(standard: Standard, latents: Floats) -> Tensor:
    return torch.from_numpy(((latents - standard.mean) @ standard.matrix).astype(np.float32))


def _teach(cars: Tensor, others: Tensor, steps: int, seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    width = cars.shape[1]
    for hidden in WIDTHS:
        layers += [nn.Linear(width, hidden), nn.SiLU(), nn.Dropout(DROPOUT)]
        width = hidden
    network = nn.Sequential(*layers, nn.Linear(width, 1))
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    truth = torch.cat([torch.ones(BATCH), torch.zeros(BATCH)])
    for step in range(steps):
        rows = [kind[torch.randint(len(kind), (BATCH,))] for kind in (cars, others)]
        batch = torch.cat(rows)
        said = network(batch + NOISE * torch.randn_like(batch))[:, 0]
        loss = F.binary_cross_entropy_with_logits(said, truth)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if step % 1000 == 999:
            log.info("likeness: step %d, loss %.4f", step + 1, loss.item())
    return network.eval()


def _folded(network: nn.Sequential, standard: Standard) -> list[tuple[Floats, Floats]]:
    """Its layers, of which the first takes latents as they are."""
    layers: list[tuple[Floats, Floats]] = []
    for layer in network:
        if not isinstance(layer, nn.Linear):
            continue
        weight, bias = (part.detach().numpy().astype(np.float64) for part in (layer.weight.T, layer.bias))
        if not layers:
            weight = standard.matrix @ weight
            bias = bias - standard.mean @ weight
        layers.append((weight.astype(np.float32), bias.astype(np.float32)))
    return layers


def _logits(layers: list[tuple[Floats, Floats]], latents: Floats) -> NDArray[np.float64]:
    likeness = np.clip(Likeness(layers)(latents), 1e-12, 1 - 1e-12)
    logits: NDArray[np.float64] = np.log(likeness / (1 - likeness))
    return logits
