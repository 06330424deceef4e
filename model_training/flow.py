"""The flow of the prior: learnt by a large network, guided, and distilled into a small one that is quick.

The large network learns the velocities that carry N(0, I) to the latents (flow matching, Lipman et al. 2023).
Where it and a small network that learnt for a short time disagree, it is followed further than it goes
(autoguidance, Karras et al. 2024): both err to the same side, towards latents that lie between those of cars.
Its paths' two ends then teach the network that is kept to go from the one to the other on a straight line
(rectified flow, Liu et al. 2023), for which a few steps suffice.
"""

import copy
import logging
import math
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from app.latents import FLOW_FREQUENCIES
from model_training.codec import Floats
from model_training.train import has_bf16

log = logging.getLogger(__name__)

COORDINATES = 64
"""Leading whitened coordinates, which say what is coarse, that the flow moves; details.py has the others."""

TEACHER_WIDTH, TEACHER_BLOCKS, CLOCK_WIDTH, DROPOUT = 640, 3, 256, 0.1
WEAK_WIDTH, WEAK_DEPTH, WEAK_SHARE = 256, 2, 0.3
WIDTH, DEPTH, SHARE = 448, 3, 4
"""Of the network that is kept, and how many times the teacher's steps it learns for."""
STEPS = 2
"""More change next to nothing: the paths are almost straight."""

GUIDANCE, GUIDED_FROM = 1.0, 0.3
"""How much further than it goes the teacher is followed, in units of its difference to the weak network, and
from which time on: guided before, draws become alike."""
TEACHER_STEPS = 24
PAIRS = 131_072

BATCH = 512
LEARNING_RATE, WARM_UP, WEIGHT_DECAY, AVERAGE = 1e-3, 200, 0.01, 0.999
LARGEST_GRADIENT = 1.0

Network = TypeVar("Network", bound=nn.Module)
Field = Callable[[Tensor, Tensor], Tensor]
"""Velocities (N, K) at points (N, K) and times (N, 1)."""


class Targets(NamedTuple):
    """Posteriors in whitened coordinates, all or the leading K of them: means (N, K), standard deviations
    (N, L) as the encoder gives them, the matrix (L, K) that whitens, and what the error of each coordinate
    weighs (K,)."""

    means: Tensor
    stds: Tensor
    whiten: Tensor
    weight: Tensor

    def draw(self, rows: Tensor) -> Tensor:
        """A new draw (n, K) from each of the chosen posteriors."""
        stds = self.stds[rows]
        return self.means[rows] + (stds * torch.randn_like(stds)) @ self.whiten

    def leading(self, count: int) -> "Targets":
        """The same with `count` coordinates at most."""
        weight = self.weight[:count]
        return Targets(self.means[:, :count], self.stds, self.whiten[:, :count], weight / weight.mean())


def clock_frequencies() -> Tensor:
    """(F,) of app.latents.Flow."""
    return torch.tensor(FLOW_FREQUENCIES, dtype=torch.float32)


def clock(time: Tensor, frequencies: Tensor) -> Tensor:
    """Times (N, 1) with their sines and cosines, (N, 1 + 2F)."""
    phases = time * frequencies
    return torch.cat([time, phases.sin(), phases.cos()], 1)


class Velocity(nn.Module):
    """The network of app.latents.Flow."""

    frequencies: Tensor

    def __init__(self, coordinates: int, width: int, depth: int) -> None:
        super().__init__()
        self.coordinates = coordinates
        self.register_buffer("frequencies", clock_frequencies(), persistent=False)
        self.entry = nn.Linear(coordinates + 1 + 2 * len(self.frequencies), width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.exit = nn.Linear(width, coordinates)
        start_at_zero(self.exit)

    def forward(self, points: Tensor, time: Tensor) -> Tensor:
        """Velocities (N, coordinates) at points (N, coordinates) and times (N, 1) in 0..1."""
        state = F.silu(self.entry(torch.cat([points, clock(time, self.frequencies)], 1)))
        for layer in self.hidden:
            state = state + F.silu(layer(state))
        velocity: Tensor = self.exit(state)
        return velocity

    def arrays(self) -> dict[str, Floats]:
        """The layers of app.latents.Flow."""
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


class Teacher(nn.Module):
    """Residual blocks of two layers, normalised and then scaled and shifted by what the time says."""

    frequencies: Tensor

    def __init__(self, coordinates: int, width: int, blocks: int) -> None:
        super().__init__()
        self.coordinates, self.width = coordinates, width
        self.register_buffer("frequencies", clock_frequencies(), persistent=False)
        self.clock = nn.Sequential(
            nn.Linear(1 + 2 * len(self.frequencies), CLOCK_WIDTH),
            nn.SiLU(),
            nn.Linear(CLOCK_WIDTH, 2 * width * blocks),
        )
        self.entry = nn.Linear(coordinates, width)
        self.first = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.second = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.exit = nn.Linear(width, coordinates)
        for layer in (*self.second, self.exit):
            start_at_zero(layer)

    def forward(self, points: Tensor, time: Tensor) -> Tensor:
        """As Velocity."""
        state = self.entry(points)
        scales_and_shifts = self.clock(clock(time, self.frequencies)).chunk(2 * len(self.first), 1)
        places = zip(self.first, self.second, scales_and_shifts[::2], scales_and_shifts[1::2], strict=True)
        for first, second, scale, shift in places:
            inner = F.layer_norm(state, (self.width,)) * (1 + scale) + shift
            state = state + second(F.dropout(F.silu(first(inner)), DROPOUT, self.training))
        velocity: Tensor = self.exit(F.layer_norm(state, (self.width,)))
        return velocity


def start_at_zero(layer: nn.Module) -> None:
    """Zero what the layer adds at first."""
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def fit_flow(encoded: Targets, held_out: Targets, steps: int, seed: int = 0) -> dict[str, Floats]:
    """Fit a flow from N(0, I) to whitened latents.

    Args:
        encoded: what it learns; a new draw from each posterior is taken whenever it is used.
        held_out: what the logged loss is of.
        steps: of the teacher; the others take their share.

    Returns:
        the arrays of app.latents.Flow.
    """
    torch.manual_seed(seed)
    coordinates = encoded.means.shape[1]

    def matching(targets: Targets) -> Callable[[nn.Module], Tensor]:
        def loss(network: nn.Module) -> Tensor:
            ends = targets.draw(torch.randint(len(targets.means), (BATCH,)))
            return matching_loss(network, torch.randn_like(ends), ends, targets.weight)

        return loss

    def figure(network: nn.Module) -> float:
        with torch.no_grad():
            return float(sum(matching(held_out)(network) for _ in range(20)) / 20)

    teacher = train_average(Teacher(coordinates, TEACHER_WIDTH, TEACHER_BLOCKS), matching(encoded), steps)
    log.info("teacher: flow matching loss on held-out latents %.4f", figure(teacher))
    weak = Velocity(coordinates, WEAK_WIDTH, WEAK_DEPTH)
    weak = train_average(weak, matching(encoded), math.ceil(WEAK_SHARE * steps))
    log.info("weak network: %.4f", figure(weak))
    count = min(PAIRS, BATCH * steps)
    starts = torch.randn(count, coordinates)
    ends = torch.cat(
        [
            guided_ends(chunk, teacher, weak, TEACHER_STEPS, GUIDANCE, GUIDED_FROM)
            for chunk in torch.split(starts, 4096)
        ]
    )

    def distilling(network: nn.Module) -> Tensor:
        rows = torch.randint(count, (BATCH,))
        return matching_loss(network, starts[rows], ends[rows], encoded.weight)

    student = train_average(Velocity(coordinates, WIDTH, DEPTH), distilling, SHARE * steps)
    with torch.no_grad():
        error = float(sum(distilling(student) for _ in range(20)) / 20)
    log.info("distilled: loss %.4f along straight lines", error)
    return {**student.arrays(), "steps": np.array(STEPS, np.float32)}


def matching_loss(network: Field, starts: Tensor, ends: Tensor, weight: Tensor) -> Tensor:
    """Mean square error of the velocities on the straight lines from starts to ends, at random times."""
    time = torch.rand(len(ends), 1)
    error = network((1 - time) * starts + time * ends, time) - (ends - starts)
    mean: Tensor = (weight * error.square()).mean()
    return mean


def train_average(
    network: Network, loss: Callable[[nn.Module], Tensor], steps: int, learning_rate: float = LEARNING_RATE
) -> Network:
    """Train a network; gives the moving average of its weights and of batch norm's statistics, evaluated."""
    average = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=WEIGHT_DECAY, fused=True)
    fast = has_bf16(torch.device("cpu"))
    for step in range(steps):
        rate = min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * rate
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            error = loss(network)
        error.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
        optimizer.step()
        decay = min(AVERAGE, (step + 1) / (step + 10))
        with torch.no_grad():
            for mean, value in zip(average.parameters(), network.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)
            for kept, statistic in zip(average.buffers(), network.buffers(), strict=True):
                if kept.is_floating_point():
                    kept.lerp_(statistic, 1 - decay)
    return average.eval()


def guided_ends(
    starts: Tensor, teacher: Field, weak: Field, steps: int, guidance: float, guided_from: float
) -> Tensor:
    """Where the teacher's paths end that begin at (N, K) starts, by Adams-Bashforth's second-order steps.

    From time `guided_from` on the teacher is followed `guidance` times its difference to the weak network
    further than it goes.
    """
    points, before = starts.clone(), None
    with torch.no_grad():
        for step in range(steps):
            time = torch.full((len(points), 1), step / steps)
            velocity = teacher(points, time)
            if step >= guided_from * steps:
                velocity = velocity + guidance * (velocity - weak(points, time))
            points += (velocity if before is None else 1.5 * velocity - 0.5 * before) / steps
            before = velocity
    return points
