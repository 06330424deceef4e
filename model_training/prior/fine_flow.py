"""Fine flow: trailing coordinates given the leading ones, learnt by convolutions, distilled into one pass.

Trailing coordinates say what is fine, and which fine structure fits depends on the coarse image around it.
Dense layers learn that by heart, from the images at hand; convolutions over latent images find it in cars
that they have not seen. As in the coarse flow, a large network is distilled into one that takes a single
pass.
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
    flow_matching_loss,
    guided_ends,
    match_distribution,
    train_average,
)
from model_training.prior.latent_images import LatentImages, coordinate_grid, stack_images
from model_training.prior.networks import ConvField, TimeEmbedding, start_at_zero
from model_training.prior.targets import Targets
from model_training.prior_recipe import (
    ConvFakeConfig,
    FineFieldConfig,
    FineStudentConfig,
    PriorConfig,
    VelocityFieldConfig,
)
from model_training.torch_utils import fold_batch_norm

log = logging.getLogger(__name__)

PATH_BATCH = 512
"""Paths that are followed at a time."""
HELD_OUT_BATCH = 192
"""Of the losses that are logged."""


class FineField(nn.Module):
    """Velocity field of the trailing coordinates, by convolutions of what both parts show."""

    coordinate_grid: Tensor

    def __init__(
        self,
        leading: LatentImages,
        trailing: LatentImages,
        network: FineFieldConfig | ConvFakeConfig,
        config: VelocityFieldConfig,
    ) -> None:
        super().__init__()
        self.leading, self.trailing = leading, trailing
        self.register_buffer("coordinate_grid", coordinate_grid(trailing.grid), persistent=False)
        self.time_embedding = TimeEmbedding(config.time_width)
        self.gain = nn.Linear(config.time_width, trailing.coordinates)
        self.convolutions = ConvField(
            2 * trailing.values + 2, network.channels, network.blocks, trailing.values, config
        )
        for layer in (self.convolutions.exit, self.gain):
            start_at_zero(layer)

    def forward(self, leading: Tensor, points: Tensor, time: Tensor) -> Tensor:
        """At trailing coordinates (N, L - K) and times (N, 1) in 0..1, given leading ones (N, K)."""
        conditioning = self.time_embedding(time)
        shown = stack_images((self.leading, leading), (self.trailing, points), self.coordinate_grid)
        drawn = self.trailing.from_image(self.convolutions(shown, conditioning))
        velocity: Tensor = drawn + points * self.gain(conditioning)
        return velocity


class FineStudent(nn.Module):
    """Network of app.model.prior_networks.FineGenerator, as it is trained."""

    coordinate_grid: Tensor

    def __init__(self, leading: LatentImages, trailing: LatentImages, network: FineStudentConfig) -> None:
        super().__init__()
        channels = network.channels
        self.leading, self.trailing = leading, trailing
        self.register_buffer("coordinate_grid", coordinate_grid(trailing.grid), persistent=False)
        self.entry = _normalised(2 * trailing.values + 2, channels)
        self.first = nn.ModuleList(_normalised(channels, channels) for _ in range(network.blocks))
        self.second = nn.ModuleList(_normalised(channels, channels) for _ in range(network.blocks))
        for block in self.second:
            assert isinstance(block, nn.Sequential)
            assert isinstance(block[1], nn.BatchNorm2d)
            nn.init.constant_(block[1].weight, network.residual)
        self.exit = nn.Conv2d(channels, trailing.values, 3, padding=1, bias=False)
        self.keep = nn.Parameter(torch.ones(trailing.coordinates))
        start_at_zero(self.exit)

    def forward(self, leading: Tensor, trailing: Tensor) -> Tensor:
        """Coordinates (N, K) and (N, L - K), the latter drawn from N(0, I) -> those that fit, (N, L - K)."""
        shown = stack_images((self.leading, leading), (self.trailing, trailing), self.coordinate_grid)
        state = self.entry(shown)
        for first, second in zip(self.first, self.second, strict=True):
            state = state + second(F.relu(first(F.relu(state))))
        drawn = self.trailing.from_image(self.exit(F.relu(state)))
        fitting: Tensor = drawn + self.keep * trailing
        return fitting

    @torch.no_grad()
    def arrays(self) -> dict[str, Floats]:
        """The layers of app.model.prior_networks.FineGenerator, of the network in evaluation: normalisation
        becomes part of the convolutions, and what the coordinate grid adds part of a bias."""
        kernel, shift = _folded(self.entry)
        shown = 2 * self.trailing.values
        grid_bias = F.conv2d(self.coordinate_grid, kernel[:, shown:], padding=1)[0] + shift[:, None, None]
        first, second = ([_folded(block) for block in blocks] for blocks in (self.first, self.second))
        tensors = {
            "picture": torch.cat([self.leading.basis, self.trailing.basis]),
            "entry": _channels_last(kernel[:, :shown]),
            "entry_bias": grid_bias.permute(1, 2, 0),
            "first": torch.stack([_channels_last(kernel) for kernel, _ in first]),
            "first_bias": torch.stack([shift for _, shift in first]),
            "second": torch.stack([_channels_last(kernel) for kernel, _ in second]),
            "second_bias": torch.stack([shift for _, shift in second]),
            "exit": _channels_last(self.exit.weight),
            "back": self.trailing.inverse.view(*self.trailing.grid, self.trailing.values, -1),
            "keep": self.keep,
        }
        return {name: tensor.detach().numpy().astype(np.float32) for name, tensor in tensors.items()}


def _normalised(inputs: int, outputs: int) -> nn.Sequential:
    """A convolution of 3 x 3 and the batch norm behind it."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))


def _folded(block: nn.Module) -> tuple[Tensor, Tensor]:
    """Kernel (C, inputs, 3, 3) and bias (C,) of a convolution with its batch norm inside."""
    assert isinstance(block, nn.Sequential)
    convolution, norm = block
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    folded = fold_batch_norm(convolution, norm)
    assert folded.bias is not None
    return folded.weight, folded.bias


def _channels_last(kernel: Tensor) -> Tensor:
    """(outputs, inputs, 3, 3) -> (3, 3, inputs, outputs)."""
    return kernel.permute(2, 3, 1, 0)


def fit_fine_flow(
    encoded: Targets, held_out: Targets, basis: Tensor, drawn: Tensor, config: PriorConfig
) -> dict[str, Floats]:
    """Fit a generator that makes trailing coordinates agree with leading ones.

    Args:
        encoded: what it learns, with all L coordinates.
        held_out: what the logged loss is of.
        basis: (L, rows, columns, S), as latent_image_basis gives it.
        drawn: (M, K) leading coordinates as the coarse flow draws them; half of what it makes is to fit to
            these.

    Returns:
        the arrays of app.model.prior_networks.FineGenerator.
    """
    torch.manual_seed(config.seed)
    fine, steps = config.fine, math.ceil(config.fine.steps_ratio * config.steps)
    leading = drawn.shape[1]
    trailing = len(basis) - leading
    parts = LatentImages(basis[:leading]), LatentImages(basis[leading:])
    weight = encoded.weight[leading:] / encoded.weight[leading:].mean()

    def field_loss(field: nn.Module, targets: Targets, size: int) -> Tensor:
        latents = targets.draw_batch(size)
        ends = latents[:, leading:]
        return flow_matching_loss(partial(field, latents[:, :leading]), torch.randn_like(ends), ends, weight)

    def held_out_loss(field: nn.Module) -> float:
        with torch.no_grad():
            return float(sum(field_loss(field, held_out, HELD_OUT_BATCH) for _ in range(20)) / 20)

    def trained_field(network: FineFieldConfig) -> FineField:
        field = FineField(*parts, network, config.velocity_fields)
        loss = partial(field_loss, targets=encoded, size=network.batch_size)
        field_steps = math.ceil(network.steps_ratio * steps)
        return train_average(field, loss, field_steps, network.learning_rate, config.optimizer)

    def draw_conditions(rows: int) -> tuple[Tensor]:
        real = encoded.draw_batch(rows // 2)[:, :leading]
        return (torch.cat([real, drawn[torch.randint(len(drawn), (rows - len(real),))]]),)

    teacher = trained_field(fine.teacher)
    log.info("fine flow, teacher: flow matching loss on held-out latents %.4f", held_out_loss(teacher))
    weak = trained_field(fine.weak)
    log.info("fine flow, weak network: %.4f", held_out_loss(weak))
    count = min(fine.paths.count, fine.student.batch_size * steps)
    (given,) = draw_conditions(count)
    starts = torch.randn(count, trailing)
    ends = torch.cat(
        [
            guided_ends(noise, partial(teacher, part), partial(weak, part), fine.paths)
            for part, noise in zip(
                torch.split(given, PATH_BATCH), torch.split(starts, PATH_BATCH), strict=True
            )
        ]
    )

    def regression_loss(network: nn.Module, weight: Tensor | float = 1) -> Tensor:
        rows = torch.randint(count, (fine.student.batch_size,))
        error = network(given[rows], starts[rows]) - ends[rows]
        mean: Tensor = (weight * error.square()).mean()
        return mean

    distillation_loss = partial(regression_loss, weight=weight)

    student = train_average(
        FineStudent(*parts, fine.student),
        distillation_loss,
        math.ceil(fine.student.steps_ratio * steps),
        fine.student.learning_rate,
        config.optimizer,
    )
    with torch.no_grad():
        error, power = distillation_loss(student), (weight * ends.square()).mean()
    log.info("fine flow, distilled: %.3f of the variance missed", float(error / power))
    student = match_distribution(
        student,
        FineField(*parts, fine.fake, config.velocity_fields),
        teacher,
        weak,
        draw_conditions,
        trailing,
        steps,
        config=fine.matching,
        optimizer_config=config.optimizer,
        regression_loss=regression_loss,
    )
    return student.arrays()
