"""Derivatives of the sub-pixel decoder, written by hand: neither exporter of PyTorch takes autograd's.

Between its leaky ReLUs the decoder is linear. So a step in the latents goes through the same products as the
latents themselves, without biases and with each activation's slope where it stands (J t); and what is wanted
of the images goes back through the transposed products (J^T g).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_training.networks.layers import LEAK
from model_training.networks.subpixel_vae import Decoder


class Slopes(NamedTuple):
    """The slope of each leaky ReLU, 1 or LEAK, where the decoder was evaluated."""

    hidden: Tensor
    spread: Tensor
    down: Tensor
    middle: list[Tensor]


class DecoderDerivatives(nn.Module):
    """A decoder whose batch norms are folded (`fold_batch_norms`), with its derivatives; it shares the weights.

    Images are cells here, as `Decoder.cells` gives them: (N, 48, H / 4, W / 4).
    """

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.small, self.grid = decoder.small, decoder.grid
        self.linear, self.hidden = decoder.linear, decoder.hidden[0]
        self.compress, self.spread = decoder.compress, decoder.spread[0]
        self.down, self.middle = decoder.down[0], decoder.middle[::3]
        self.correction, self.enlarge = decoder.correction, decoder.enlarge

    def forward(self, latents: Tensor) -> tuple[Tensor, Slopes]:
        """(N, latent_dim) -> the images, and the slopes there."""
        small = self.linear(latents).view(-1, *self.small)
        hidden, hidden_slope = _leaky_relu(self.hidden(latents))
        drawn, spread_slope = _leaky_relu(self.spread(self.compress(hidden)))
        below, down_slope = _leaky_relu(self.down(small))
        features = torch.cat((drawn.view(-1, *self.grid), below), 1)
        middle_slopes = []
        for layer in self.middle:
            features, slope = _leaky_relu(layer(features))
            middle_slopes.append(slope)
        cells = self.correction(features) + self.enlarge(small)
        return cells, Slopes(hidden_slope, spread_slope, down_slope, middle_slopes)

    def push_forward(self, slopes: Slopes, tangents: Tensor) -> Tensor:
        """J t: how the images change along (N, latent_dim) tangents."""
        small = (tangents @ self.linear.weight.T).view(-1, *self.small)
        hidden = (tangents @ self.hidden.weight.T) * slopes.hidden
        drawn = (hidden @ self.compress.weight.T @ self.spread.weight.T) * slopes.spread
        below = _convolve(small, self.down.weight) * slopes.down
        features = torch.cat((drawn.view(-1, *self.grid), below), 1)
        for layer, slope in zip(self.middle, slopes.middle, strict=True):
            features = _convolve(features, layer.weight) * slope
        return _convolve(features, self.correction.weight) + _convolve(small, self.enlarge.weight)

    def pull_back(self, slopes: Slopes, cotangents: Tensor) -> Tensor:
        """J^T g: what images (N, 48, H / 4, W / 4) ask of the latents, (N, latent_dim)."""
        small = _convolve_back(cotangents, self.enlarge.weight)
        features = _convolve_back(cotangents, self.correction.weight)
        for layer, slope in zip(reversed(self.middle), reversed(slopes.middle), strict=True):
            features = _convolve_back(features * slope, layer.weight)
        drawn, below = features[:, : self.grid[0]], features[:, self.grid[0] :]
        small = small + _convolve_back(below * slopes.down, self.down.weight)
        hidden = (drawn.flatten(1) * slopes.spread) @ self.spread.weight @ self.compress.weight
        return small.flatten(1) @ self.linear.weight + (hidden * slopes.hidden) @ self.hidden.weight


def _leaky_relu(values: Tensor) -> tuple[Tensor, Tensor]:
    slope = torch.where(values > 0, 1.0, LEAK)
    return values * slope, slope


def _convolve(values: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(values, weight, padding=1)


def _convolve_back(values: Tensor, weight: Tensor) -> Tensor:
    """The transpose of `_convolve`: a convolution too, from the outputs to the inputs and turned by 180
    degrees."""
    return F.conv2d(values, weight.transpose(0, 1).flip(2, 3), padding=1)
