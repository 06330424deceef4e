"""Sub-pixel VAE: the linear codec of pca_vae.py, corrected by convolutions at a quarter of the size (best).

The decoder works in cells of 4 x 4 pixels from the latent to the last layer, which gives the 48 values of
each cell (the sub-pixel convolution of Shi et al. 2016). So all its products are plain 3x3 convolutions and
dense layers, of which a CPU has integer kernels, and its derivatives are as plain.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_training.networks import pca_vae
from model_training.networks.layers import LEAK, LOG_VARIANCE_RANGE, Posterior, down
from model_training.networks.pca_vae import BILINEAR, CORRECTION_SCALE, Components, convolution, dense
from model_training.recipe import SubpixelVaeConfig

CELL = 4
"""Pixels along each side of a cell."""

SMALL_CELL = CELL // pca_vae.REDUCTION
"""The same in pixels of the half-sized image of the linear codec."""


class Encoder(pca_vae.Encoder):
    """(N, 3, H, W) in 0..1 -> Posterior; what convolutions see in the image adds to the mean."""

    def __init__(self, config: SubpixelVaeConfig) -> None:
        super().__init__(config)
        first, second, last = config.encoder_channels
        self.convolutions = nn.Sequential(
            *down(3, first), *down(first, second), *convolution(second, second), *convolution(second, last)
        )
        eighths = (config.height // 8) * (config.width // 8)
        self.correction = nn.Linear(last * eighths, config.latent_dim, bias=False)
        with torch.no_grad():
            self.correction.weight.mul_(CORRECTION_SCALE)

    def forward(self, images: Tensor) -> Posterior:
        half_size = F.avg_pool2d(images, pca_vae.REDUCTION)
        small = half_size.flatten(1)
        hidden = self.hidden(small)
        seen = self.convolutions(half_size).flatten(1)
        mean = (self.linear(small) + self.mean(hidden) + self.correction(seen)).float()
        return Posterior(mean, self.log_variance(hidden).float().clamp(*LOG_VARIANCE_RANGE))


class Decoder(nn.Module):
    """(N, latent_dim) -> images, (N, 3, H, W) float32, not clamped to 0..1.

    The linear codec's half-sized image and features drawn from the latent, both as cells, go through
    convolutions; these correct the enlarged image of the linear codec.
    """

    def __init__(self, config: SubpixelVaeConfig) -> None:
        super().__init__()
        rows, columns = config.height // CELL, config.width // CELL
        self.small = (3 * SMALL_CELL**2, rows, columns)
        self.grid = (config.features, rows, columns)
        channels = config.channels
        self.linear = nn.Linear(config.latent_dim, 3 * SMALL_CELL**2 * rows * columns)
        self.hidden = dense(config.latent_dim, config.hidden)
        self.compress = nn.Linear(config.hidden, config.rank, bias=False)
        self.spread = nn.Sequential(
            nn.Linear(config.rank, config.features * rows * columns), nn.LeakyReLU(LEAK)
        )
        self.down = nn.Sequential(
            nn.Conv2d(self.small[0], channels - config.features, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels - config.features),
            nn.LeakyReLU(LEAK),
        )
        self.middle = nn.Sequential(
            *(layer for _ in range(config.depth) for layer in convolution(channels, channels))
        )
        self.correction = nn.Conv2d(channels, 3 * CELL**2, 3, padding=1)
        self.enlarge = nn.Conv2d(self.small[0], 3 * CELL**2, 3, padding=1, bias=False)
        with torch.no_grad():
            self.enlarge.weight.copy_(bilinear_weight())

    def init_from_pca(self, components: Components) -> None:
        """Make the half-sized image the sum of the components, and all else small."""
        mean, basis, variance = components
        rows, columns = self.small[1:]
        places = torch.arange(len(mean)).view(1, 3, SMALL_CELL * rows, SMALL_CELL * columns)
        order = F.pixel_unshuffle(places, SMALL_CELL).flatten()
        with torch.no_grad():
            self.linear.weight.copy_((basis * variance.sqrt())[order])
            self.linear.bias.copy_(mean[order])
            self.correction.weight.mul_(CORRECTION_SCALE)
            assert self.correction.bias is not None
            self.correction.bias.zero_()

    def cells(self, latents: Tensor) -> Tensor:
        """The images as cells, (N, 3 * CELL ** 2, H / CELL, W / CELL)."""
        small = _grid(self.linear(latents), self.small)
        drawn = _grid(self.spread(self.compress(self.hidden(latents))), self.grid)
        features = self.middle(torch.cat((drawn, self.down(small)), 1))
        cells: Tensor = self.correction(features) + self.enlarge(small)
        return cells

    def forward(self, latents: Tensor) -> Tensor:
        return F.pixel_shuffle(self.cells(latents), CELL).float()


def bilinear_weight() -> Tensor:
    """(3 * CELL ** 2, 3 * SMALL_CELL ** 2, 3, 3): the convolution from cell to cell that enlarges the
    half-sized image bilinearly."""
    kernel = torch.tensor(BILINEAR)
    taps = torch.zeros(CELL, SMALL_CELL, 3)
    for pixel in range(CELL):
        for tap in range(len(BILINEAR)):
            source, odd = divmod(pixel + 1 - tap, pca_vae.REDUCTION)
            if not odd:
                cell, place = divmod(source, SMALL_CELL)
                taps[pixel, place, cell + 1] += kernel[tap]
    weight = torch.einsum("cd,uia,vjb->cuvdijab", torch.eye(3), taps, taps)
    return weight.reshape(3 * CELL**2, 3 * SMALL_CELL**2, 3, 3)


def _grid(values: Tensor, shape: tuple[int, int, int]) -> Tensor:
    return values.view(-1, *shape).contiguous(memory_format=torch.channels_last)
