"""Coarse flow: leading coordinates of latents, learnt by a large velocity field, distilled into one pass."""

import logging
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_training.backends.base import Floats
from model_training.prior.distillation import (
    flow_matching_loss,
    guided_ends,
    match_distribution,
    train_average,
)
from model_training.prior.latent_images import LatentImages, coordinate_grid, stack_images
from model_training.prior.networks import ConvField, DenseField, GlobalBranch, TimeEmbedding, start_at_zero
from model_training.prior.targets import Targets
from model_training.prior_recipe import (
    CoarseFieldConfig,
    DenseFakeConfig,
    PriorConfig,
    VelocityFieldConfig,
)

log = logging.getLogger(__name__)

PATH_BATCH = 512
"""Paths that are followed at a time."""
HELD_OUT_BATCH = 512
"""Of the losses that are logged."""


class CoarseField(nn.Module):
    """Velocity field by dense layers and by convolutions of what the coordinates show, added up.

    Coordinates are shown twice, as much as each adds to the image and all alike.
    """

    coordinate_grid: Tensor

    def __init__(self, basis: Tensor, network: CoarseFieldConfig, config: VelocityFieldConfig) -> None:
        """`basis` (K, rows, columns, S): what each coordinate adds to a latent image."""
        super().__init__()
        count, (rows, columns, values) = len(basis), basis.shape[1:]
        alike = F.normalize(basis.flatten(1)).view_as(basis)
        self.added, self.alike = LatentImages(basis), LatentImages(alike)
        self.register_buffer("coordinate_grid", coordinate_grid((rows, columns)), persistent=False)
        self.time_embedding = TimeEmbedding(config.time_width)
        self.gain = nn.Linear(config.time_width, count)
        self.convolutions = ConvField(2 * values + 2, network.channels, network.blocks, 2 * values, config)
        self.global_branch = GlobalBranch(
            network.channels, (rows, columns), network.global_width, config.dropout
        )
        self.dense = DenseField(count, network.dense_width, network.dense_blocks, config)
        start_at_zero(self.gain)

    def forward(self, points: Tensor, time: Tensor) -> Tensor:
        """Velocities (N, K) at points (N, K) and times (N, 1) in 0..1."""
        conditioning = self.time_embedding(time)
        shown = stack_images((self.added, points), (self.alike, points), self.coordinate_grid)
        added, alike = self.convolutions(shown, conditioning, self.global_branch).chunk(2, 1)
        drawn = self.added.from_image(added) + self.alike.from_image(alike)
        velocity: Tensor = self.dense(points, conditioning) + drawn + points * self.gain(conditioning)
        return velocity


class FakeField(nn.Module):
    """Fake score network: velocity field of what the student draws, by dense layers."""

    def __init__(self, coordinates: int, network: DenseFakeConfig, config: VelocityFieldConfig) -> None:
        super().__init__()
        self.time_embedding = TimeEmbedding(config.time_width)
        self.dense = DenseField(coordinates, network.width, network.blocks, config)

    def forward(self, points: Tensor, time: Tensor) -> Tensor:
        """Velocities (N, K) at points (N, K) and times (N, 1) in 0..1."""
        velocity: Tensor = self.dense(points, self.time_embedding(time))
        return velocity


class CoarseStudent(nn.Module):
    """Network of app.model.prior_networks.CoarseGenerator, as it is trained."""

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


def fit_coarse_flow(
    encoded: Targets, held_out: Targets, basis: Tensor, config: PriorConfig
) -> dict[str, Floats]:
    """Fit a generator that carries N(0, I) to whitened latents.

    Args:
        encoded: what it learns; a new draw from each posterior is taken whenever it is used.
        held_out: what the logged loss is of.
        basis: (K, rows, columns, S), as latent_image_basis gives it, of the same coordinates.

    Returns:
        the arrays of app.model.prior_networks.CoarseGenerator.
    """
    torch.manual_seed(config.seed)
    coarse, steps, coordinates = config.coarse, config.steps, encoded.means.shape[1]

    def held_out_loss(field: nn.Module) -> float:
        loss = _flow_matching(held_out, HELD_OUT_BATCH)
        with torch.no_grad():
            return float(sum(loss(field) for _ in range(20)) / 20)

    def trained_field(network: CoarseFieldConfig) -> CoarseField:
        field = CoarseField(basis, network, config.velocity_fields)
        loss = _flow_matching(encoded, network.batch_size)
        field_steps = math.ceil(network.steps_ratio * steps)
        return train_average(field, loss, field_steps, network.learning_rate, config.optimizer)

    teacher = trained_field(coarse.teacher)
    log.info("teacher: flow matching loss on held-out latents %.4f", held_out_loss(teacher))
    weak = trained_field(coarse.weak)
    log.info("weak network: %.4f", held_out_loss(weak))
    count = min(coarse.paths.count, coarse.student.batch_size * steps)
    starts = torch.randn(count, coordinates)
    ends = torch.cat(
        [guided_ends(chunk, teacher, weak, coarse.paths) for chunk in torch.split(starts, PATH_BATCH)]
    )
    ends /= ends.std(0)  # guidance leads too far out; whitened latents have the variance 1

    def regression_loss(network: nn.Module, weight: Tensor | float = 1) -> Tensor:
        rows = torch.randint(count, (coarse.student.batch_size,))
        error = network(starts[rows]) - ends[rows]
        mean: Tensor = (weight * error.square()).mean()
        return mean

    distillation_loss = partial(regression_loss, weight=encoded.weight)

    student = train_average(
        CoarseStudent(coordinates, coarse.student.width, coarse.student.depth),
        distillation_loss,
        math.ceil(coarse.student.steps_ratio * steps),
        coarse.student.learning_rate,
        config.optimizer,
    )
    with torch.no_grad():
        error, power = distillation_loss(student), (encoded.weight * ends.square()).mean()
    log.info("distilled: %.3f of the variance missed", float(error / power))
    student = match_distribution(
        student,
        FakeField(coordinates, coarse.fake, config.velocity_fields),
        teacher,
        weak,
        lambda _: (),
        coordinates,
        steps,
        config=coarse.matching,
        optimizer_config=config.optimizer,
        regression_loss=regression_loss,
    )
    return student.arrays()


def _flow_matching(targets: Targets, size: int) -> Callable[[nn.Module], Tensor]:
    """The flow matching loss of a velocity field on as many targets, which are drawn anew at each call."""

    def loss(field: nn.Module) -> Tensor:
        ends = targets.draw_batch(size)
        return flow_matching_loss(field, torch.randn_like(ends), ends, targets.weight)

    return loss
