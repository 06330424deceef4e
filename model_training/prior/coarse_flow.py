"""The flow of the prior: learnt by a large network and distilled into a small one that is quick."""

import logging
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_training.backends.base import Floats
from model_training.prior.distillation import (
    Matching,
    guided_ends,
    match_distribution,
    matching_loss,
    train_average,
)
from model_training.prior.latent_images import SmallPictures, places, show
from model_training.prior.networks import (
    CLOCK_WIDTH,
    WHOLE_WIDTH,
    Clock,
    Convolutions,
    Dense,
    Whole,
    start_at_zero,
)
from model_training.prior.targets import Targets

log = logging.getLogger(__name__)

COORDINATES = 64
"""Leading whitened coordinates, which say what is coarse, that the flow moves; details.py has the others."""

CHANNELS, BLOCKS, DENSE_WIDTH, DENSE_BLOCKS = 64, 4, 640, 3
WEAK_CHANNELS, WEAK_BLOCKS, WEAK_WIDTH, WEAK_DENSE_BLOCKS, WEAK_SHARE = 32, 2, 256, 2, 0.12
"""Of the teacher and of the weak network, and for what share of the teacher's steps the latter learns."""

WIDTH, DEPTH, SHARE = 320, 6, 2
"""Of the network that is kept, and how many times the teacher's steps it learns for."""

GUIDANCE, GUIDED_FROM = 0.75, 0.3
"""How much further than it goes the teacher is followed, in units of its difference to the weak network, and
from which time on."""
TEACHER_STEPS = 12
PAIRS = 65_536

MATCHING_SHARE, MATCHING_GUIDANCE, PAIRS_WEIGHT = 0.6, 0.5, 0.1
"""Of the last part: its share of the teacher's steps, and what the distance to the paths' ends weighs."""
OWN_WIDTH, OWN_BLOCKS, OWN_SHARE = 384, 3, 0.5
"""Of the network that follows the student, and for what share of the teacher's steps it learns before: with
a fifth it leads the student astray."""

BATCH, TEACHER_BATCH, PATH_BATCH = 512, 256, 512
TEACHER_RATE, MATCHING_RATE = 1.2e-3, 2e-4


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
    """The network of app.model.prior_networks.CoarseGenerator."""

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
        """The layers of app.model.prior_networks.CoarseGenerator."""
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
    encoded: Targets, held_out: Targets, picture: Tensor, steps: int, seed: int = 0
) -> dict[str, Floats]:
    """Fit a flow from N(0, I) to whitened latents.

    Args:
        encoded: what it learns; a new draw from each posterior is taken whenever it is used.
        held_out: what the logged loss is of.
        picture: (K, rows, columns, S), as principal_pictures gives it, of the same coordinates.
        steps: of the teacher; the others take their share.

    Returns:
        the arrays of app.model.prior_networks.CoarseGenerator.
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

    def stray(network: Student) -> Tensor:
        rows = torch.randint(count, (BATCH,))
        error: Tensor = (network(starts[rows]) - ends[rows]).square().mean()
        return PAIRS_WEIGHT * error

    how = Matching(
        math.ceil(MATCHING_SHARE * steps),
        math.ceil(OWN_SHARE * steps),
        TEACHER_BATCH,
        BATCH,
        MATCHING_RATE,
        MATCHING_GUIDANCE,
    )
    own = Own(coordinates, OWN_WIDTH, OWN_BLOCKS)
    student = match_distribution(student, own, teacher, weak, lambda _: (), coordinates, how, stray)
    return student.arrays()
