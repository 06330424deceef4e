"""The details of the prior: the coordinates that the flow leaves alone, made to agree with those it moves.

Trailing coordinates say what is fine, and which fine structure fits depends on the coarse picture around it.
Dense layers learn that by heart, from the pictures at hand; convolutions over small pictures, which latents
are turned into linearly, find it in cars that they have not seen. As for the flow, a large network is
distilled into one that takes a single pass, here given the leading coordinates.
"""

import logging
import math
from functools import partial

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
from model_training.prior.networks import CLOCK_WIDTH, Clock, Convolutions, start_at_zero
from model_training.prior.targets import Targets

log = logging.getLogger(__name__)

TEACHER_CHANNELS, TEACHER_BLOCKS = 96, 4
WEAK_CHANNELS, WEAK_BLOCKS, WEAK_SHARE = 32, 1, 0.125
CHANNELS, BLOCKS, SHARE = 32, 3, 2.5
"""Of the network that is kept, and how many times the teacher's steps it learns for."""
RESIDUAL = 0.3
"""How much its blocks add at first."""

GUIDANCE = 1.4
"""More gives stronger edges, and too much colour; the student takes some of it back."""
TEACHER_STEPS = 10
PAIRS = 32_768

MATCHING_SHARE, MATCHING_GUIDANCE = 1.5, 0.65
"""Of the last part: its share of the teacher's steps. Nothing is taken back here, so less is enough."""
OWN_CHANNELS, OWN_BLOCKS, OWN_SHARE = 64, 2, 0.5
"""Of the network that follows the student, and for what share of the teacher's steps it learns before."""

BATCH, STUDENT_BATCH, PATH_BATCH, MATCHING_BATCH = 192, 256, 512, 128
LEARNING_RATE, STUDENT_RATE, MATCHING_RATE = 1.5e-3, 3e-3, 1e-4


class Teacher(nn.Module):
    """Velocities of the trailing coordinates, by convolutions of what both parts show."""

    places: Tensor

    def __init__(self, leading: SmallPictures, trailing: SmallPictures, channels: int, blocks: int) -> None:
        super().__init__()
        self.leading, self.trailing = leading, trailing
        self.register_buffer("places", places(trailing.grid), persistent=False)
        self.clock = Clock()
        self.own = nn.Linear(CLOCK_WIDTH, trailing.coordinates)
        self.convolutions = Convolutions(2 * trailing.values + 2, channels, blocks, trailing.values)
        for layer in (self.convolutions.exit, self.own):
            start_at_zero(layer)

    def forward(self, leading: Tensor, points: Tensor, time: Tensor) -> Tensor:
        """At trailing coordinates (N, L - K) and times (N, 1) in 0..1, given leading ones (N, K)."""
        told = self.clock(time)
        shown = show((self.leading, leading), (self.trailing, points), self.places)
        velocity: Tensor = self.trailing.read(self.convolutions(shown, told)) + points * self.own(told)
        return velocity


class Student(nn.Module):
    """The network of app.model.prior_networks.FineGenerator."""

    places: Tensor

    def __init__(self, leading: SmallPictures, trailing: SmallPictures, channels: int, blocks: int) -> None:
        super().__init__()
        self.leading, self.trailing = leading, trailing
        self.register_buffer("places", places(trailing.grid), persistent=False)
        self.entry = _normalised(2 * trailing.values + 2, channels)
        self.first = nn.ModuleList(_normalised(channels, channels) for _ in range(blocks))
        self.second = nn.ModuleList(_normalised(channels, channels) for _ in range(blocks))
        for block in self.second:
            assert isinstance(block, nn.Sequential)
            assert isinstance(block[1], nn.BatchNorm2d)
            nn.init.constant_(block[1].weight, RESIDUAL)
        self.exit = nn.Conv2d(channels, trailing.values, 3, padding=1, bias=False)
        self.keep = nn.Parameter(torch.ones(trailing.coordinates))
        start_at_zero(self.exit)

    def forward(self, leading: Tensor, trailing: Tensor) -> Tensor:
        """Coordinates (N, K) and (N, L - K), the latter drawn from N(0, I) -> those that fit, (N, L - K)."""
        shown = show((self.leading, leading), (self.trailing, trailing), self.places)
        state = self.entry(shown)
        for first, second in zip(self.first, self.second, strict=True):
            state = state + second(F.relu(first(F.relu(state))))
        fitting: Tensor = self.trailing.read(self.exit(F.relu(state))) + self.keep * trailing
        return fitting

    @torch.no_grad()
    def arrays(self) -> dict[str, Floats]:
        """The layers of app.model.prior_networks.FineGenerator, of the network in evaluation: normalisation
        becomes part of the convolutions, and what the cells' places add part of a bias."""
        kernel, shift = _folded(self.entry)
        shown = 2 * self.trailing.values
        places = F.conv2d(self.places, kernel[:, shown:], padding=1)[0] + shift[:, None, None]
        first, second = ([_folded(block) for block in blocks] for blocks in (self.first, self.second))
        tensors = {
            "picture": torch.cat([self.leading.picture, self.trailing.picture]),
            "entry": _channels_last(kernel[:, :shown]),
            "entry_bias": places.permute(1, 2, 0),
            "first": torch.stack([_channels_last(kernel) for kernel, _ in first]),
            "first_bias": torch.stack([shift for _, shift in first]),
            "second": torch.stack([_channels_last(kernel) for kernel, _ in second]),
            "second_bias": torch.stack([shift for _, shift in second]),
            "exit": _channels_last(self.exit.weight),
            "back": self.trailing.back.view(*self.trailing.grid, self.trailing.values, -1),
            "keep": self.keep,
        }
        return {name: tensor.detach().numpy().astype(np.float32) for name, tensor in tensors.items()}


def _normalised(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))


def _folded(block: nn.Module) -> tuple[Tensor, Tensor]:
    """Kernel (C, inputs, 3, 3) and bias (C,) of a convolution with the batch norm behind it."""
    assert isinstance(block, nn.Sequential)
    convolution, norm = block
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return convolution.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale


def _channels_last(kernel: Tensor) -> Tensor:
    """(outputs, inputs, 3, 3) -> (3, 3, inputs, outputs)."""
    return kernel.permute(2, 3, 1, 0)


def fit_details(
    encoded: Targets,
    held_out: Targets,
    picture: Tensor,
    drawn: Tensor,
    steps: int,
    seed: int = 0,
) -> dict[str, Floats]:
    """Fit the network that makes trailing coordinates agree with leading ones.

    Args:
        encoded: what it learns, with all L coordinates.
        held_out: what the logged loss is of.
        picture: as principal_pictures gives it.
        drawn: (M, K) leading coordinates as the flow draws them; half of what it makes is to fit to these.
        steps: of the teacher; the others take their share.

    Returns:
        the arrays of app.model.prior_networks.FineGenerator.
    """
    torch.manual_seed(seed)
    leading = drawn.shape[1]
    pictures = SmallPictures(picture[:leading]), SmallPictures(picture[leading:])
    weight = encoded.weight[leading:] / encoded.weight[leading:].mean()

    def matching(network: nn.Module, targets: Targets = encoded) -> Tensor:
        whole = targets.draw(torch.randint(len(targets.means), (BATCH,)))
        ends = whole[:, leading:]
        return matching_loss(partial(network, whole[:, :leading]), torch.randn_like(ends), ends, weight)

    def figure(network: nn.Module) -> float:
        with torch.no_grad():
            return float(sum(matching(network, held_out) for _ in range(20)) / 20)

    def given_to(rows: int) -> tuple[Tensor]:
        real = encoded.draw(torch.randint(len(encoded.means), (rows // 2,)))[:, :leading]
        return (torch.cat([real, drawn[torch.randint(len(drawn), (rows - len(real),))]]),)

    teacher = train_average(
        Teacher(*pictures, TEACHER_CHANNELS, TEACHER_BLOCKS), matching, steps, LEARNING_RATE
    )
    log.info("details, teacher: flow matching loss on held-out latents %.4f", figure(teacher))
    weak = Teacher(*pictures, WEAK_CHANNELS, WEAK_BLOCKS)
    weak = train_average(weak, matching, math.ceil(WEAK_SHARE * steps), LEARNING_RATE)
    log.info("details, weak network: %.4f", figure(weak))
    count, trailing = min(PAIRS, STUDENT_BATCH * steps), len(picture) - leading
    (given,) = given_to(count)
    starts = torch.randn(count, trailing)
    ends = torch.cat(
        [
            guided_ends(noise, partial(teacher, part), partial(weak, part), TEACHER_STEPS, GUIDANCE, 0.0)
            for part, noise in zip(
                torch.split(given, PATH_BATCH), torch.split(starts, PATH_BATCH), strict=True
            )
        ]
    )

    def distilling(network: nn.Module) -> Tensor:
        rows = torch.randint(count, (STUDENT_BATCH,))
        error = network(given[rows], starts[rows]) - ends[rows]
        loss: Tensor = (weight * error.square()).mean()
        return loss

    student = Student(*pictures, CHANNELS, BLOCKS)
    student = train_average(student, distilling, math.ceil(SHARE * steps), STUDENT_RATE)
    with torch.no_grad():
        error, power = distilling(student), (weight * ends.square()).mean()
    log.info("details, distilled: %.3f of the variance missed", float(error / power))

    how = Matching(
        math.ceil(MATCHING_SHARE * steps),
        math.ceil(OWN_SHARE * steps),
        MATCHING_BATCH,
        MATCHING_BATCH,
        MATCHING_RATE,
        MATCHING_GUIDANCE,
    )
    own = Teacher(*pictures, OWN_CHANNELS, OWN_BLOCKS)
    student = match_distribution(student, own, teacher, weak, given_to, trailing, how)
    return student.arrays()
