"""Networks of velocity fields: time embedding, dense and convolutional blocks, a global branch."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_training.prior_recipe import VelocityFieldConfig

FREQUENCIES = [1.5 * 2.0**octave for octave in range(8)]
"""Of the sines and cosines of time, in radians over the whole way."""


class TimeEmbedding(nn.Module):
    """Conditioning of a network on the time, by its sines and cosines."""

    frequencies: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.tensor(FREQUENCIES), persistent=False)
        self.layer = nn.Linear(1 + 2 * len(FREQUENCIES), width)

    def forward(self, time: Tensor) -> Tensor:
        """Times (N, 1) -> (N, width)."""
        phases = time * self.frequencies
        return F.silu(self.layer(torch.cat([time, phases.sin(), phases.cos()], 1)))


class DenseField(nn.Module):
    """Residual blocks of two dense layers, normalised and then scaled and shifted by the conditioning."""

    def __init__(self, coordinates: int, width: int, blocks: int, config: VelocityFieldConfig) -> None:
        super().__init__()
        self.width, self.dropout = width, config.dropout
        self.modulation = nn.Linear(config.time_width, 2 * width * blocks)
        self.entry = nn.Linear(coordinates, width)
        self.first = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.second = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.exit = nn.Linear(width, coordinates)
        for layer in (*self.second, self.exit):
            start_at_zero(layer)

    def forward(self, points: Tensor, conditioning: Tensor) -> Tensor:
        """Velocities (N, coordinates) at points (N, coordinates), given the time's embedding (N, C)."""
        state = self.entry(points)
        modulations = self.modulation(conditioning).chunk(2 * len(self.first), 1)
        for first, second, scale, shift in zip(
            self.first, self.second, modulations[::2], modulations[1::2], strict=True
        ):
            inner = F.layer_norm(state, (self.width,)) * (1 + scale) + shift
            state = state + second(F.dropout(F.silu(first(inner)), self.dropout, self.training))
        velocity: Tensor = self.exit(F.layer_norm(state, (self.width,)))
        return velocity


class ConvField(nn.Module):
    """Residual blocks of two convolutions on a latent image, scaled and shifted by the conditioning."""

    def __init__(
        self, inputs: int, channels: int, blocks: int, outputs: int, config: VelocityFieldConfig
    ) -> None:
        super().__init__()
        self.groups, self.channel_dropout = config.groups, config.channel_dropout
        self.modulation = nn.Linear(config.time_width, 2 * channels * blocks)
        self.entry = convolution(inputs, channels)
        self.before = nn.ModuleList(nn.GroupNorm(self.groups, channels) for _ in range(blocks))
        self.first = nn.ModuleList(convolution(channels, channels) for _ in range(blocks))
        self.second = nn.ModuleList(convolution(channels, channels) for _ in range(blocks))
        self.after = nn.GroupNorm(self.groups, channels)
        self.exit = convolution(channels, outputs)
        for layer in self.second:
            start_at_zero(layer)

    def forward(self, shown: Tensor, conditioning: Tensor, middle: nn.Module | None = None) -> Tensor:
        """(N, inputs, rows, columns) and the time's embedding (N, C) -> (N, outputs, rows, columns); what
        `middle` makes of the state is added half-way."""
        modulations = self.modulation(conditioning)[:, :, None, None].chunk(2 * len(self.first), 1)
        state = self.entry(shown)
        layers = zip(self.before, self.first, self.second, modulations[::2], modulations[1::2], strict=True)
        for number, (before, first, second, scale, shift) in enumerate(layers, 1):
            inner = F.group_norm(first(F.silu(before(state))), self.groups) * (1 + scale) + shift
            state = state + second(F.dropout2d(F.silu(inner), self.channel_dropout, self.training))
            if middle is not None and number == math.ceil(len(self.first) / 2):
                state = state + middle(state)
        drawn: Tensor = self.exit(F.silu(self.after(state)))
        return drawn


class GlobalBranch(nn.Module):
    """Dense layers between latent images of half the size, which join what is far apart."""

    def __init__(self, channels: int, grid: tuple[int, int], width: int, dropout: float) -> None:
        super().__init__()
        self.channels, self.coarse = channels, (math.ceil(grid[0] / 2), math.ceil(grid[1] / 2))
        self.dropout = dropout
        values = channels * math.prod(self.coarse)
        self.first, self.second = nn.Linear(values, width), nn.Linear(width, values)
        start_at_zero(self.second)

    def forward(self, state: Tensor) -> Tensor:
        """(N, channels, rows, columns) -> the same."""
        small = F.adaptive_avg_pool2d(state, self.coarse).flatten(1)
        made = self.second(F.dropout(F.silu(self.first(small)), self.dropout, self.training))
        return F.interpolate(made.view(-1, self.channels, *self.coarse), state.shape[2:])


def convolution(inputs: int, outputs: int) -> nn.Conv2d:
    """A convolution of 3 x 3 that keeps the size."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def start_at_zero(layer: nn.Module) -> None:
    """Zero a layer's weights and bias, so that it adds nothing at first."""
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
