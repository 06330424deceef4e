"""Layers of both architectures, and the Posterior that their encoders give; all fold and quantise well.

That is stride-2 convolutions of kernel 4, dense layers, batch norm and leaky ReLU.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

LEAK = 0.1
"""Slope of the leaky ReLU below zero."""

LOG_VARIANCE_RANGE = (-30.0, 20.0)
"""Beyond it exp() leaves float32; the same bounds as in diffusers' DiagonalGaussianDistribution."""


class Posterior(NamedTuple):
    """A diagonal Gaussian over latents for each image of a batch: two (N, latent_dim) float32 tensors."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """The reparameterisation mean + std * noise, noise drawn from N(0, I) by the caller."""
        return self.mean + torch.exp(0.5 * self.log_variance) * noise

    def kl(self) -> Tensor:
        """KL(N(mean, variance) || N(0, 1)) in nats for each image and dimension, (N, latent_dim).

        Kingma & Welling 2014, appendix B.
        """
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1.0 - self.log_variance)


def down(channels_in: int, channels_out: int) -> nn.Sequential:
    """Half the size: (N, channels_in, H, W) -> (N, channels_out, H/2, W/2)."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.LeakyReLU(LEAK),
    )


def up(channels_in: int, channels_out: int) -> nn.Sequential:
    """Twice the size: (N, channels_in, H, W) -> (N, channels_out, 2H, 2W)."""
    return nn.Sequential(
        nn.ConvTranspose2d(channels_in, channels_out, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.LeakyReLU(LEAK),
    )
