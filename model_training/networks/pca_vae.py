"""PCA-initialised U-Net VAE: a linear codec that starts as PCA, and networks that correct it (recipe best).

Both directions are a sum. One part is linear: the image at half its size, projected onto principal
components and back. The other is a small network that starts near zero and learns what a linear map cannot
do. Training thus begins at the quality of PCA, where convolutions alone need hundreds of epochs to come near
it, and dense layers do most of the work, at a fraction of what as many weights in convolutions cost.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from app.images.arrays import ImageArray
from model_training.networks.layers import LEAK, LOG_VARIANCE_RANGE, Posterior, down, up
from model_training.recipe import PcaVaeConfig, SubpixelVaeConfig
from model_training.torch_utils import to_float

OVERSAMPLING, ITERATIONS = 64, 6
"""Of the randomised decomposition (Halko et al. 2011); with more the components no longer change visibly."""

LEAST_VARIANCE = 1e-6
"""Components without variance, where images are few, must not be divided by zero."""

NOISE = 0.034
"""The variance in which a component drowns where pixels err by 0.09 of their range, as they do in the end: it
is what the posterior's variance starts from."""

REDUCTION = 2
"""The linear parts work on images of half the size: 256 components of cars hold next to no finer detail."""

BILINEAR = (0.25, 0.75, 0.75, 0.25)
"""The kernel by which a transposed convolution of stride 2 interpolates."""

CORRECTION_SCALE = 0.1
"""The correcting parts start this much smaller than PyTorch would have them."""


class Components(NamedTuple):
    """Principal components of images at half size, flattened: mean (D,), basis (D, count) of orthonormal
    columns, and the variance (count,) along each."""

    mean: Tensor
    basis: Tensor
    variance: Tensor


def principal_components(images: ImageArray, count: int) -> Components:
    """The leading components of images and their mirror images, in float32.

    Args:
        images: (N, height, width, 3) uint8. With fewer images than components, the last have no variance.
    """
    small = torch.cat([half_size(chunk) for chunk in torch.split(torch.from_numpy(images), 1024)])
    both = torch.cat([small, small.flip(3)]).flatten(1)
    mean = both.mean(0)
    centred = both - mean
    covariance = centred.T @ centred / len(centred)
    basis, variance, _ = torch.svd_lowrank(covariance, min(len(mean), count + OVERSAMPLING), niter=ITERATIONS)
    return Components(mean, basis[:, :count].contiguous(), variance[:count].clamp_min(LEAST_VARIANCE))


def half_size(images: Tensor) -> Tensor:
    """(N, H, W, 3) uint8 -> (N, 3, H/2, W/2) float32 in 0..1."""
    return F.avg_pool2d(to_float(images), REDUCTION)


def dense(inputs: int, outputs: int) -> nn.Sequential:
    """A dense layer with batch norm and leaky ReLU."""
    return nn.Sequential(nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.LeakyReLU(LEAK))


def convolution(inputs: int, outputs: int) -> nn.Sequential:
    """The same size: (N, inputs, H, W) -> (N, outputs, H, W)."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(LEAK)
    )


class Encoder(nn.Module):
    """(N, 3, H, W) in 0..1 -> Posterior."""

    def __init__(self, config: PcaVaeConfig | SubpixelVaeConfig) -> None:
        super().__init__()
        values = 3 * (config.height // REDUCTION) * (config.width // REDUCTION)
        self.linear = nn.Linear(values, config.latent_dim)
        self.hidden = dense(values, config.hidden)
        self.mean = nn.Linear(config.hidden, config.latent_dim, bias=False)
        self.log_variance = nn.Linear(config.hidden, config.latent_dim)
        with torch.no_grad():
            self.mean.weight.mul_(CORRECTION_SCALE)
            self.log_variance.weight.mul_(CORRECTION_SCALE)

    def init_from_pca(self, components: Components) -> None:
        """Make the mean the coordinates along the components, each of unit variance."""
        mean, basis, variance = components
        projection = (basis / variance.sqrt()).T
        with torch.no_grad():
            self.linear.weight.copy_(projection)
            self.linear.bias.copy_(-projection @ mean)
            self.log_variance.bias.copy_(torch.log(NOISE / (variance + NOISE)))

    def forward(self, images: Tensor) -> Posterior:
        small = F.avg_pool2d(images, REDUCTION).flatten(1)
        hidden = self.hidden(small)
        mean = (self.linear(small) + self.mean(hidden)).float()
        return Posterior(mean, self.log_variance(hidden).float().clamp(*LOG_VARIANCE_RANGE))


class Decoder(nn.Module):
    """(N, latent_dim) -> images, (N, 3, H, W) float32, not clamped to 0..1.

    The linear codec's small image, and features drawn from the latent, go through a U-Net of two sizes:
    being convolutional, it corrects cars it has never seen about as well as those it was trained on.
    """

    def __init__(self, config: PcaVaeConfig) -> None:
        super().__init__()
        half, quarter = config.channels
        self.small = (3, config.height // REDUCTION, config.width // REDUCTION)
        self.grid = (config.features, config.height // 4, config.width // 4)
        self.linear = nn.Linear(config.latent_dim, math.prod(self.small))
        self.hidden = dense(config.latent_dim, config.hidden)
        self.spread = nn.Sequential(nn.Linear(config.hidden, math.prod(self.grid)), nn.LeakyReLU(LEAK))
        self.down = down(3, quarter - config.features)
        self.middle = convolution(quarter, quarter)
        self.up = up(quarter, half)
        self.refine = convolution(half + 3, half)
        self.to_rgb = nn.ConvTranspose2d(half + 3, 3, 4, stride=2, padding=1)

    def init_from_pca(self, components: Components) -> None:
        """Make the small image the sum of the components, and its enlargement bilinear."""
        mean, basis, variance = components
        kernel = torch.tensor(BILINEAR)
        with torch.no_grad():
            self.linear.weight.copy_(basis * variance.sqrt())
            self.linear.bias.copy_(mean)
            self.to_rgb.weight.mul_(CORRECTION_SCALE)
            self.to_rgb.weight[-3:] = torch.eye(3)[:, :, None, None] * torch.outer(kernel, kernel)
            assert self.to_rgb.bias is not None
            self.to_rgb.bias.zero_()

    def forward(self, latents: Tensor) -> Tensor:
        small = _grid(self.linear(latents), self.small)
        drawn = _grid(self.spread(self.hidden(latents)), self.grid)
        quarter = self.middle(torch.cat((drawn, self.down(small)), 1))
        half = self.refine(torch.cat((self.up(quarter), small), 1))
        images: Tensor = self.to_rgb(torch.cat((half, small), 1))
        return images.float()


def _grid(values: Tensor, shape: tuple[int, int, int]) -> Tensor:
    return values.view(-1, *shape).contiguous(memory_format=torch.channels_last)
