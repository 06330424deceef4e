"""Networks of the prior's teachers: time embedding, dense and convolutional velocity fields."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WHOLE_WIDTH, CLOCK_WIDTH, GROUPS = 512, 128, 8
DROPOUT, CHANNEL_DROPOUT = 0.1, 0.05

FREQUENCIES = [1.5 * 2.0**octave for octave in range(8)]
"""Of the sines and cosines of time, in radians over the whole way."""


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


def convolution(inputs: int, outputs: int) -> nn.Conv2d:
    """The same size."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def start_at_zero(layer: nn.Module) -> None:
    """Zero what the layer adds at first."""
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
