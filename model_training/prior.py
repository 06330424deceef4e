"""A density fitted to the latents of the training set, so that what is drawn from it looks like cars.

The decoder only knows the region of latent space that the encoder uses, and that region is not N(0, I): the
dimensions of the aggregate posterior depend on each other (Dai & Wipf 2019). Fitting it afterwards is ex-post
density estimation (Ghosh et al. 2020). A Gaussian with the right covariance already gives cars, of which the
parts do not agree; a flow learns what is left between it and the latents.
"""

import logging
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from app.images import Pixels
from app.latents import FLOW_FREQUENCIES
from model_training.augmentation import augment
from model_training.codec import Codec, Floats
from model_training.train import has_bf16, to_float

log = logging.getLogger(__name__)

PRIOR = "prior.npz"

COPIES, STRENGTH = 4, 0.5
"""Changed copies of each picture, beside itself and its mirror image, and how much they are changed: with
fewer the flow soon knows its latents by heart."""

COORDINATES = 96
"""Leading whitened coordinates that the flow moves; in the others the latents are Gaussian noise to it."""

WIDTH, DEPTH = 512, 3
BATCH = 512
LEARNING_RATE, WARM_UP, WEIGHT_DECAY, AVERAGE = 1e-3, 200, 0.01, 0.999
SHRINKAGE = 1e-3
"""Added to each variance, it keeps the covariance of few pictures invertible."""

Doubles = NDArray[np.float64]


class Posteriors(NamedTuple):
    """Means and standard deviations, each (N, latent_dim) float32."""

    mean: Floats
    std: Floats


class Gaussian(NamedTuple):
    """Mean (L,) and lower triangular factor of the covariance (L, L)."""

    mean: Doubles
    cholesky: Doubles


def posteriors(codec: Codec, pixels: Pixels, copies: int, seed: int) -> Posteriors:
    """Posteriors of pictures, of their mirror images and of changed copies, half of them mirrored too.

    Args:
        pixels: (N, height, width, 3) uint8.
        copies: how many changed ones of each.

    Returns:
        N (2 + copies) of them, the pictures' own first.
    """
    generator = torch.Generator().manual_seed(seed)
    encoded = []
    for number in range(2 + copies):
        pictures = np.ascontiguousarray(pixels[:, :, ::-1] if number % 2 else pixels)
        encoded.append(codec.encode(_changed(pictures, generator) if number > 1 else pictures))
    mean, log_variance = (np.concatenate(part) for part in zip(*encoded, strict=True))
    return Posteriors(mean, np.exp(0.5 * log_variance))


def _changed(pixels: Pixels, generator: torch.Generator) -> Pixels:
    chunks = [
        (augment(to_float(chunk), generator, STRENGTH) * 255).round().byte().permute(0, 2, 3, 1)
        for chunk in torch.split(torch.from_numpy(pixels), BATCH)
    ]
    changed: Pixels = np.ascontiguousarray(torch.cat(chunks).numpy())
    return changed


def fit_gaussian(encoded: Posteriors, seed: int = 0) -> Gaussian:
    """The Gaussian of one draw from each posterior.

    Draws and not means: the decoder was trained on draws, and means vary less where the posterior is wide.

    Raises:
        ValueError: fewer latents than dimensions.
    """
    count, dimensions = encoded.mean.shape
    if count <= dimensions:
        raise ValueError(f"{count} latents are too few to fit a density in {dimensions} dimensions")
    noise = np.random.default_rng(seed).standard_normal(encoded.mean.shape)
    latents = encoded.mean + encoded.std * noise
    covariance = np.cov(latents.T).reshape(dimensions, dimensions) + SHRINKAGE * np.eye(dimensions)
    return Gaussian(latents.mean(axis=0), np.asarray(np.linalg.cholesky(covariance), dtype=np.float64))


class Velocity(nn.Module):
    """The network of app.latents.Flow."""

    frequencies: Tensor

    def __init__(self, coordinates: int) -> None:
        super().__init__()
        frequencies = torch.tensor(FLOW_FREQUENCIES, dtype=torch.float32)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.entry = nn.Linear(coordinates + 1 + 2 * len(frequencies), WIDTH)
        self.hidden = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(DEPTH))
        self.exit = nn.Linear(WIDTH, coordinates)
        nn.init.zeros_(self.exit.weight)
        nn.init.zeros_(self.exit.bias)

    def forward(self, points: Tensor, time: Tensor) -> Tensor:
        """Velocities (N, coordinates) at points (N, coordinates) and times (N, 1) in 0..1."""
        phases = time * self.frequencies
        state = F.silu(self.entry(torch.cat([points, time, phases.sin(), phases.cos()], 1)))
        for layer in self.hidden:
            state = state + F.silu(layer(state))
        velocity: Tensor = self.exit(state)
        return velocity

    def arrays(self) -> dict[str, Floats]:
        """The arrays of app.latents.Flow."""
        layers = [layer for layer in self.hidden if isinstance(layer, nn.Linear)]
        tensors = {
            "entry": self.entry.weight,
            "entry_bias": self.entry.bias,
            "hidden": torch.stack([layer.weight for layer in layers]),
            "hidden_bias": torch.stack([layer.bias for layer in layers]),
            "exit": self.exit.weight,
            "exit_bias": self.exit.bias,
        }
        return {name: tensor.detach().numpy().astype(np.float32) for name, tensor in tensors.items()}


def fit_flow(
    encoded: Posteriors, held_out: Posteriors, gaussian: Gaussian, steps: int, seed: int = 0
) -> dict[str, Floats]:
    """A flow from N(0, I) to the whitened latents, by flow matching (Lipman et al. 2023).

    Errors weigh by how narrow the posteriors are: there the decoder tells latents apart.

    Args:
        encoded: what it learns; a new draw from each posterior is taken whenever it is used.
        held_out: what the logged loss is of.

    Returns:
        the arrays of app.latents.Flow.
    """
    torch.manual_seed(seed)
    coordinates = min(COORDINATES, encoded.mean.shape[1])
    unfactor = np.linalg.inv(gaussian.cholesky).T
    whiten = torch.from_numpy(unfactor[:, :coordinates].astype(np.float32))
    weight = torch.from_numpy(1 / np.sqrt((encoded.std**2).mean(axis=0)))[:coordinates]
    weight = weight / weight.mean()
    sets = [
        (
            torch.from_numpy(((part.mean - gaussian.mean) @ unfactor)[:, :coordinates].astype(np.float32)),
            torch.from_numpy(part.std),
        )
        for part in (encoded, held_out)
    ]

    def loss(network: Velocity, means: Tensor, stds: Tensor) -> Tensor:
        ends = means + (stds * torch.randn_like(stds)) @ whiten
        starts, time = torch.randn_like(ends), torch.rand(len(ends), 1)
        error = network((1 - time) * starts + time * ends, time) - (ends - starts)
        mean: Tensor = (weight * error.square()).mean()
        return mean

    fast = has_bf16(torch.device("cpu"))
    network, average = Velocity(coordinates), Velocity(coordinates)
    average.load_state_dict(network.state_dict())
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=WEIGHT_DECAY, fused=True)
    for step in range(steps):
        rate = min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * rate
        chosen = torch.randint(0, len(encoded.mean), (BATCH,))
        means, stds = sets[0]
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            error = loss(network, means[chosen], stds[chosen])
        error.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        decay = min(AVERAGE, (step + 1) / (step + 10))
        with torch.no_grad():
            for mean, value in zip(average.parameters(), network.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)
    with torch.no_grad():
        figures = [float(loss(average, *part)) for part in sets]
    log.info("flow matching loss %.4f, on held-out latents %.4f", *figures)
    return average.arrays()


def save(gaussian: Gaussian, flow: dict[str, Floats], path: Path) -> None:
    """Write what app.latents.read_prior reads: plain arrays, of which a flow needs few digits."""
    np.savez(
        path,
        weights=np.ones(1),
        means=gaussian.mean[np.newaxis],
        cholesky=gaussian.cholesky[np.newaxis].astype(np.float32),
        **{f"flow_{name}": values.astype(np.float16) for name, values in flow.items()},  # type: ignore[arg-type]
    )
