"""The flow of the prior: learnt by a large network, guided, and distilled into a small one that is quick.

The large network learns the velocities that carry N(0, I) to the latents (flow matching, Lipman et al. 2023).
Where it and a weak network disagree, it is followed further than it goes (autoguidance, Karras et al. 2024):
both err to the same side, towards latents that lie between those of cars. The two ends of such paths teach
the network that is kept to go from the one to the other in one pass. Where it cannot tell them apart it goes
to their mean, and so it learns on, until what it draws has the distribution that the large network knows
(distribution matching distillation, Yin et al. 2024).
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

from model_training.codec import Floats
from model_training.small_pictures import SmallPictures, places, show
from model_training.train import has_bf16

log = logging.getLogger(__name__)

COORDINATES = 64
"""Leading whitened coordinates, which say what is coarse, that the flow moves; details.py has the others."""

CHANNELS, BLOCKS, DENSE_WIDTH, DENSE_BLOCKS = 64, 4, 640, 3
WEAK_CHANNELS, WEAK_BLOCKS, WEAK_WIDTH, WEAK_DENSE_BLOCKS, WEAK_SHARE = 32, 2, 256, 2, 0.12
"""Of the teacher and of the weak network, and for what share of the teacher's steps the latter learns."""
WHOLE_WIDTH, CLOCK_WIDTH, GROUPS = 512, 128, 8
DROPOUT, CHANNEL_DROPOUT = 0.1, 0.05

WIDTH, DEPTH, SHARE = 320, 3, 4
"""Of the network that is kept, and how many times the teacher's steps it learns for."""

GUIDANCE, GUIDED_FROM = 0.75, 0.3
"""How much further than it goes the teacher is followed, in units of its difference to the weak network, and
from which time on."""
TEACHER_STEPS = 12
PAIRS = 65_536

MATCHING_SHARE, MATCHING_GUIDANCE, PAIRS_WEIGHT = 0.4, 0.5, 0.1
"""Of the last part: its share of the teacher's steps, and what the distance to the paths' ends weighs."""
OWN_WIDTH, OWN_BLOCKS, OWN_SHARE, OWN_STEPS = 384, 3, 0.3, 2
"""Of the network that follows the student: for what share of the teacher's steps it learns before, and how
many steps it has for one of the student's."""

BATCH, TEACHER_BATCH, PATH_BATCH = 512, 256, 512
LEARNING_RATE, TEACHER_RATE, WARM_UP, WEIGHT_DECAY, AVERAGE = 1e-3, 1.2e-3, 200, 0.01, 0.999
OWN_RATE, OWN_BETAS = 5e-4, (0.9, 0.99)
MATCHING_RATE, MATCHING_BETAS, MATCHING_AVERAGE = 2e-4, (0.5, 0.99), 0.99
LARGEST_GRADIENT = 1.0
LOG_STEPS = 250

FREQUENCIES = [1.5 * 2.0**octave for octave in range(8)]
"""Of the sines and cosines of time, in radians over the whole way."""

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


class Clock(nn.Module):
    """What a network is told of the time."""

    frequencies: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.tensor(FREQUENCIES), persistent=False)
        self.layer = nn.Linear(1 + 2 * len(FREQUENCIES), CLOCK_WIDTH)

    def forward(self, time: Tensor) -> Tensor:
        """Times (N, 1) -> (N, CLOCK_WIDTH), of their sines and cosines."""
        phases = time * self.frequencies
        return F.silu(self.layer(torch.cat([time, phases.sin(), phases.cos()], 1)))


class Dense(nn.Module):
    """Residual blocks of two layers, normalised and then scaled and shifted by what the time says."""

    def __init__(self, coordinates: int, width: int, blocks: int) -> None:
        super().__init__()
        self.width = width
        self.modulation = nn.Linear(CLOCK_WIDTH, 2 * width * blocks)
        self.entry = nn.Linear(coordinates, width)
        self.first = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.second = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.exit = nn.Linear(width, coordinates)
        for layer in (*self.second, self.exit):
            start_at_zero(layer)

    def forward(self, points: Tensor, told: Tensor) -> Tensor:
        """Velocities (N, coordinates) at points (N, coordinates), given what the clock says (N, C)."""
        state = self.entry(points)
        modulations = self.modulation(told).chunk(2 * len(self.first), 1)
        for first, second, scale, shift in zip(
            self.first, self.second, modulations[::2], modulations[1::2], strict=True
        ):
            inner = F.layer_norm(state, (self.width,)) * (1 + scale) + shift
            state = state + second(F.dropout(F.silu(first(inner)), DROPOUT, self.training))
        velocity: Tensor = self.exit(F.layer_norm(state, (self.width,)))
        return velocity


class Convolutions(nn.Module):
    """Residual blocks on a small picture, scaled and shifted by what the time says."""

    def __init__(self, inputs: int, channels: int, blocks: int, outputs: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(CLOCK_WIDTH, 2 * channels * blocks)
        self.entry = convolution(inputs, channels)
        self.before = nn.ModuleList(nn.GroupNorm(GROUPS, channels) for _ in range(blocks))
        self.first = nn.ModuleList(convolution(channels, channels) for _ in range(blocks))
        self.second = nn.ModuleList(convolution(channels, channels) for _ in range(blocks))
        self.after = nn.GroupNorm(GROUPS, channels)
        self.exit = convolution(channels, outputs)
        for layer in self.second:
            start_at_zero(layer)

    def forward(self, shown: Tensor, told: Tensor, middle: nn.Module | None = None) -> Tensor:
        """(N, inputs, rows, columns) and what the clock says (N, C) -> (N, outputs, rows, columns); what
        `middle` makes of the state is added half-way."""
        modulations = self.modulation(told)[:, :, None, None].chunk(2 * len(self.first), 1)
        state = self.entry(shown)
        layers = zip(self.before, self.first, self.second, modulations[::2], modulations[1::2], strict=True)
        for number, (before, first, second, scale, shift) in enumerate(layers, 1):
            inner = F.group_norm(first(F.silu(before(state))), GROUPS) * (1 + scale) + shift
            state = state + second(F.dropout2d(F.silu(inner), CHANNEL_DROPOUT, self.training))
            if middle is not None and number == math.ceil(len(self.first) / 2):
                state = state + middle(state)
        drawn: Tensor = self.exit(F.silu(self.after(state)))
        return drawn


class Whole(nn.Module):
    """Dense layers between pictures of half the size: what is far apart is joined."""

    def __init__(self, channels: int, grid: tuple[int, int], width: int) -> None:
        super().__init__()
        self.channels, self.coarse = channels, (math.ceil(grid[0] / 2), math.ceil(grid[1] / 2))
        values = channels * math.prod(self.coarse)
        self.first, self.second = nn.Linear(values, width), nn.Linear(width, values)
        start_at_zero(self.second)

    def forward(self, state: Tensor) -> Tensor:
        """(N, channels, rows, columns) -> the same."""
        small = F.adaptive_avg_pool2d(state, self.coarse).flatten(1)
        made = self.second(F.dropout(F.silu(self.first(small)), DROPOUT, self.training))
        return F.interpolate(made.view(-1, self.channels, *self.coarse), state.shape[2:])


class Teacher(nn.Module):
    """Velocities by dense layers and by convolutions of what the coordinates show, added up.

    Coordinates are shown twice, as much as each adds to the picture and all alike.
    """

    places: Tensor

    def __init__(
        self, picture: Tensor, channels: int, blocks: int, dense_width: int, dense_blocks: int
    ) -> None:
        """`picture` (K, rows, columns, S): what each coordinate adds."""
        super().__init__()
        count = len(picture)
        alike = F.normalize(picture.flatten(1)).view_as(picture)
        self.added, self.alike = SmallPictures(picture), SmallPictures(alike)
        grid = (picture.shape[1], picture.shape[2])
        self.register_buffer("places", places(grid), persistent=False)
        values = 2 * picture.shape[3]
        self.clock = Clock()
        self.own = nn.Linear(CLOCK_WIDTH, count)
        self.convolutions = Convolutions(values + 2, channels, blocks, values)
        self.whole = Whole(channels, grid, WHOLE_WIDTH)
        self.dense = Dense(count, dense_width, dense_blocks)
        start_at_zero(self.own)

    def forward(self, points: Tensor, time: Tensor) -> Tensor:
        """Velocities (N, K) at points (N, K) and times (N, 1) in 0..1."""
        told = self.clock(time)
        shown = show((self.added, points), (self.alike, points), self.places)
        added, alike = self.convolutions(shown, told, self.whole).chunk(2, 1)
        drawn = self.added.read(added) + self.alike.read(alike)
        velocity: Tensor = self.dense(points, told) + drawn + points * self.own(told)
        return velocity


class Own(nn.Module):
    """Velocities of what the student draws, by dense layers."""

    def __init__(self, coordinates: int, width: int, blocks: int) -> None:
        super().__init__()
        self.clock = Clock()
        self.dense = Dense(coordinates, width, blocks)

    def forward(self, points: Tensor, time: Tensor) -> Tensor:
        """Velocities (N, K) at points (N, K) and times (N, 1) in 0..1."""
        velocity: Tensor = self.dense(points, self.clock(time))
        return velocity


class Student(nn.Module):
    """The network of app.latents.Flow."""

    def __init__(self, coordinates: int, width: int, depth: int) -> None:
        super().__init__()
        self.entry = nn.Linear(coordinates, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.exit = nn.Linear(width, coordinates)
        start_at_zero(self.exit)

    def forward(self, points: Tensor) -> Tensor:
        """Draws of N(0, I) to latents, (N, coordinates)."""
        state = F.silu(self.entry(points))
        for layer in self.hidden:
            state = state + F.silu(layer(state))
        carried: Tensor = points + self.exit(state)
        return carried

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


def convolution(inputs: int, outputs: int) -> nn.Conv2d:
    """The same size."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def start_at_zero(layer: nn.Module) -> None:
    """Zero what the layer adds at first."""
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def fit_flow(
    encoded: Targets, held_out: Targets, picture: Tensor, steps: int, seed: int = 0
) -> dict[str, Floats]:
    """Fit a flow from N(0, I) to whitened latents.

    Args:
        encoded: what it learns; a new draw from each posterior is taken whenever it is used.
        held_out: what the logged loss is of.
        picture: (K, rows, columns, S), as principal_pictures gives it, of the same coordinates.
        steps: of the teacher; the others take their share.

    Returns:
        the arrays of app.latents.Flow.
    """
    torch.manual_seed(seed)
    coordinates = encoded.means.shape[1]

    def matching(targets: Targets, size: int) -> Callable[[nn.Module], Tensor]:
        def loss(network: nn.Module) -> Tensor:
            ends = targets.draw(torch.randint(len(targets.means), (size,)))
            return matching_loss(network, torch.randn_like(ends), ends, targets.weight)

        return loss

    def figure(network: nn.Module) -> float:
        with torch.no_grad():
            return float(sum(matching(held_out, BATCH)(network) for _ in range(20)) / 20)

    teacher = Teacher(picture, CHANNELS, BLOCKS, DENSE_WIDTH, DENSE_BLOCKS)
    teacher = train_average(teacher, matching(encoded, TEACHER_BATCH), steps, TEACHER_RATE)
    log.info("teacher: flow matching loss on held-out latents %.4f", figure(teacher))
    weak = Teacher(picture, WEAK_CHANNELS, WEAK_BLOCKS, WEAK_WIDTH, WEAK_DENSE_BLOCKS)
    weak_steps = math.ceil(WEAK_SHARE * steps)
    weak = train_average(weak, matching(encoded, TEACHER_BATCH), weak_steps, TEACHER_RATE)
    log.info("weak network: %.4f", figure(weak))
    count = min(PAIRS, BATCH * steps)
    starts = torch.randn(count, coordinates)
    ends = torch.cat(
        [
            guided_ends(chunk, teacher, weak, TEACHER_STEPS, GUIDANCE, GUIDED_FROM)
            for chunk in torch.split(starts, PATH_BATCH)
        ]
    )
    ends /= ends.std(0)  # guidance leads too far out; whitened latents have the variance 1

    def distilling(network: nn.Module) -> Tensor:
        rows = torch.randint(count, (BATCH,))
        error: Tensor = (encoded.weight * (network(starts[rows]) - ends[rows]).square()).mean()
        return error

    student = train_average(Student(coordinates, WIDTH, DEPTH), distilling, SHARE * steps)
    with torch.no_grad():
        error, power = distilling(student), (encoded.weight * ends.square()).mean()
    log.info("distilled: %.3f of the variance missed", float(error / power))
    return match_distribution(student, starts, ends, teacher, weak, steps).arrays()


def match_distribution(
    student: Student, starts: Tensor, ends: Tensor, teacher: Field, weak: Field, steps: int
) -> Student:
    """Train the student on, until what it draws is distributed as the guided teacher would have it.

    Another network learns the velocities of the student's draws. Noise is added to a draw, and where that
    network would move it elsewhere than the teacher does, the student follows the teacher.

    Args:
        starts, ends: (N, K) of guided paths, from which it is not to go far.
        steps: of the teacher's training; these take their share.

    Returns:
        the moving average of the student.
    """
    coordinates, average = starts.shape[1], copy.deepcopy(student).requires_grad_(False)
    own = Own(coordinates, OWN_WIDTH, OWN_BLOCKS).eval()  # as its examples never repeat, without dropout
    follow = torch.optim.AdamW(own.parameters(), betas=OWN_BETAS, weight_decay=0, fused=True)
    optimizer = torch.optim.AdamW(student.parameters(), betas=MATCHING_BETAS, weight_decay=0, fused=True)
    fast = has_bf16(torch.device("cpu"))

    def follow_student() -> None:
        with torch.no_grad():
            draws = student(torch.randn(BATCH, coordinates))
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            error = matching_loss(own, torch.randn_like(draws), draws, torch.ones(coordinates))
        follow.zero_grad()
        error.backward()  # type: ignore[no-untyped-call]
        follow.step()

    student.requires_grad_()
    for step in range(math.ceil(OWN_SHARE * steps)):
        _set_rate(follow, LEARNING_RATE * min(1.0, (step + 1) / WARM_UP))
        follow_student()
    _set_rate(follow, OWN_RATE)
    count = math.ceil(MATCHING_SHARE * steps)
    for step in range(count):
        draws = student(torch.randn(TEACHER_BATCH, coordinates))
        correction = _correction(draws.detach(), own, teacher, weak)
        rows = torch.randint(len(starts), (BATCH,))
        strayed = (student(starts[rows]) - ends[rows]).square().mean()
        loss = (correction * draws).mean() + PAIRS_WEIGHT * strayed
        _set_rate(optimizer, MATCHING_RATE * min(1.0, (step + 1) / WARM_UP) * _cosine(step / count))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), LARGEST_GRADIENT)
        optimizer.step()
        decay = min(MATCHING_AVERAGE, (step + 1) / (step + 10))
        with torch.no_grad():
            for mean, value in zip(average.parameters(), student.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)
        for _ in range(OWN_STEPS):
            follow_student()
        if (step + 1) % LOG_STEPS == 0:
            log.info("distributions at step %d: %.4f", step + 1, float(correction.square().mean()))
    return average


@torch.no_grad()
def _correction(draws: Tensor, own: Field, teacher: Field, weak: Field) -> Tensor:
    """Where (N, K) draws should not go: from where the teacher puts them back to, after some noise, to where
    their own velocities do; in units of how far that is."""
    time, noise = 0.02 + 0.96 * torch.rand(len(draws), 1), torch.randn_like(draws)
    points = (1 - time) * noise + time * draws
    with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16(torch.device("cpu"))):
        wanted, followed = teacher(points, time).float(), own(points, time).float()
        wanted = wanted + MATCHING_GUIDANCE * (wanted - weak(points, time).float())
    back = points + (1 - time) * wanted
    distance = (draws - back).abs().mean(1, keepdim=True)
    correction: Tensor = (1 - time) * (followed - wanted) / distance
    return correction


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
        _set_rate(optimizer, learning_rate * min(1.0, (step + 1) / WARM_UP) * _cosine(step / steps))
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


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _cosine(progress: float) -> float:
    """From 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def guided_ends(
    starts: Tensor, teacher: Field, weak: Field, steps: int, guidance: float, guided_from: float
) -> Tensor:
    """Where the teacher's paths end that begin at (N, K) starts, by Adams-Bashforth's second-order steps.

    From time `guided_from` on the teacher is followed `guidance` times its difference to the weak network
    further than it goes.
    """
    points, before = starts.clone(), None
    fast = has_bf16(torch.device("cpu"))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=fast):
        for step in range(steps):
            time = torch.full((len(points), 1), step / steps)
            velocity = teacher(points, time).float()
            if step >= guided_from * steps:
                velocity = velocity + guidance * (velocity - weak(points, time).float())
            points += (velocity if before is None else 1.5 * velocity - 0.5 * before) / steps
            before = velocity
    return points
