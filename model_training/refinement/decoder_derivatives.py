"""Derivatives of the sub-pixel decoder, written by hand: neither exporter of PyTorch takes autograd's.

Between its leaky ReLUs the decoder is linear. So a step in the latents goes through the same products as the
latents themselves, without biases and with each activation's slope where it stands (J t); and what is wanted
of the images goes back through the transposed products (J^T g).
"""

from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_training.networks.layers import LEAK
from model_training.networks.subpixel_vae import Decoder

Layer = TypeVar("Layer", bound=nn.Module)


class Entry(NamedTuple):
    """What the decoder's two linear maps make of latents: its small image as cells, its hidden layer before
    the activation. All else follows from it; along a line of latents it moves along a line too."""

    small: Tensor
    hidden: Tensor

    def moved(self, length: Tensor, change: "Entry") -> "Entry":
        """The entry `length` (N, 1) times further along a change."""
        return Entry(
            self.small + length[:, :, None, None] * change.small, self.hidden + length * change.hidden
        )


class Slopes(NamedTuple):
    """The slope of each leaky ReLU, 1 or LEAK, where the decoder was evaluated."""

    hidden: Tensor
    spread: Tensor
    down: Tensor
    middle: list[Tensor]


class DecoderDerivatives(nn.Module):
    """A decoder whose batch norms are folded (`fold_batch_norms`), and its derivatives.

    Images are cells here, as `Decoder.cells` gives them: (N, 48, H / 4, W / 4).
    """

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.small, self.grid = decoder.small, decoder.grid
        self.linear, self.compress = decoder.linear, decoder.compress
        (self.hidden,), (self.spread,) = _of(nn.Linear, decoder.hidden), _of(nn.Linear, decoder.spread)
        (self.down,), middle = _of(nn.Conv2d, decoder.down), _of(nn.Conv2d, decoder.middle)
        self.middle = nn.ModuleList(middle)
        self.correction, self.enlarge = decoder.correction, decoder.enlarge

    def enter(self, latents: Tensor) -> Entry:
        """(N, latent_dim) -> where they enter."""
        return Entry(self.linear(latents).view(-1, *self.small), self.hidden(latents))

    def forward(self, entry: Entry) -> tuple[Tensor, Slopes]:
        """The images, and the slopes there."""
        small = entry.small
        hidden, hidden_slope = _leaky_relu(entry.hidden)
        drawn, spread_slope = _leaky_relu(self.spread(self.compress(hidden)))
        below, down_slope = _leaky_relu(self.down(small))
        features = torch.cat((drawn.view(-1, *self.grid), below), 1)
        middle_slopes = []
        for layer in self.middle:
            features, slope = _leaky_relu(layer(features))
            middle_slopes.append(slope)
        cells = self.correction(features) + self.enlarge(small)
        return cells, Slopes(hidden_slope, spread_slope, down_slope, middle_slopes)

    def push_forward(self, slopes: Slopes, tangents: Tensor) -> tuple[Tensor, Entry]:
        """J t: how the images change along (N, latent_dim) tangents, and how the entry does."""
        small = (tangents @ self.linear.weight.T).view(-1, *self.small)
        hidden = tangents @ self.hidden.weight.T
        drawn = ((hidden * slopes.hidden) @ self.compress.weight.T @ self.spread.weight.T) * slopes.spread
        below = _convolve(small, self.down.weight) * slopes.down
        features = torch.cat((drawn.view(-1, *self.grid), below), 1)
        for kernel, slope in zip(self._kernels(), slopes.middle, strict=True):
            features = _convolve(features, kernel) * slope
        change = _convolve(features, self.correction.weight) + _convolve(small, self.enlarge.weight)
        return change, Entry(small, hidden)

    def pull_back(self, slopes: Slopes, cotangents: Tensor) -> Tensor:
        """J^T g: what images (N, 48, H / 4, W / 4) ask of the latents, (N, latent_dim)."""
        small = _convolve_back(cotangents, self.enlarge.weight)
        features = _convolve_back(cotangents, self.correction.weight)
        for kernel, slope in zip(self._kernels()[::-1], slopes.middle[::-1], strict=True):
            features = _convolve_back(features * slope, kernel)
        drawn, below = features[:, : self.grid[0]], features[:, self.grid[0] :]
        small = small + _convolve_back(below * slopes.down, self.down.weight)
        hidden = (drawn.flatten(1) * slopes.spread) @ self.spread.weight @ self.compress.weight
        return small.flatten(1) @ self.linear.weight + (hidden * slopes.hidden) @ self.hidden.weight

    def _kernels(self) -> list[Tensor]:
        return [layer.weight for layer in self.middle if isinstance(layer, nn.Conv2d)]


def _of(kind: type[Layer], layers: nn.Sequential) -> list[Layer]:
    """The layers of a kind, without what is folded into them or follows them."""
    return [layer for layer in layers if isinstance(layer, kind)]


def _leaky_relu(values: Tensor) -> tuple[Tensor, Tensor]:
    slope = torch.where(values > 0, 1.0, LEAK)
    return values * slope, slope


def _convolve(values: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(values, weight, padding=1)


def _convolve_back(values: Tensor, weight: Tensor) -> Tensor:
    """The transpose of `_convolve`: a convolution too, from the outputs to the inputs and turned by 180
    degrees."""
    return F.conv2d(values, weight.transpose(0, 1).flip(2, 3), padding=1)
