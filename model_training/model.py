"""The variational autoencoder: convolutions down to a latent distribution, transposed convolutions back up.

Only layers that fold and quantise well: stride-2 convolutions of kernel 4, batch norm, leaky ReLU.
"""

import itertools
from typing import NamedTuple

import torch
from torch import Tensor, nn

from model_training.config import ModelConfig

LOG_VARIANCE_RANGE = (-30.0, 20.0)
"""Beyond it exp() leaves float32; the same bounds as in diffusers' DiagonalGaussianDistribution."""


class Posterior(NamedTuple):
    """A diagonal Gaussian over latents for each picture of a batch: two (N, latent_dim) float32 tensors."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """The reparameterisation mean + std * noise, noise drawn from N(0, I) by the caller."""
        return self.mean + torch.exp(0.5 * self.log_variance) * noise

    def kl(self) -> Tensor:
        """KL(N(mean, variance) || N(0, 1)) in nats for each picture and dimension, (N, latent_dim).

        Kingma & Welling 2014, appendix B.
        """
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1.0 - self.log_variance)


def down(channels_in: int, channels_out: int) -> nn.Sequential:
    """Half the size: (N, channels_in, H, W) -> (N, channels_out, H/2, W/2)."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.LeakyReLU(0.1),
    )


def up(channels_in: int, channels_out: int) -> nn.Sequential:
    """Twice the size: (N, channels_in, H, W) -> (N, channels_out, 2H, 2W)."""
    return nn.Sequential(
        nn.ConvTranspose2d(channels_in, channels_out, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.LeakyReLU(0.1),
    )


class Encoder(nn.Module):
    """(N, 3, H, W) in 0..1 -> Posterior."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        stages = zip((3, *config.channels[:-1]), config.channels, strict=True)
        self.stages = nn.Sequential(*(down(before, after) for before, after in stages))
        reduction = 2 ** len(config.channels)
        features = config.channels[-1] * (config.height // reduction) * (config.width // reduction)
        self.mean = nn.Linear(features, config.latent_dim)
        self.log_variance = nn.Linear(features, config.latent_dim)

    def forward(self, pictures: Tensor) -> Posterior:
        features = self.stages(pictures).flatten(1)
        mean, log_variance = self.mean(features).float(), self.log_variance(features).float()
        return Posterior(mean, log_variance.clamp(*LOG_VARIANCE_RANGE))


class Decoder(nn.Module):
    """(N, latent_dim) -> logits of the pictures, (N, 3, H, W) float32; their sigmoid is in 0..1."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        reduction = 2 ** len(config.channels)
        self.bottom = (config.channels[-1], config.height // reduction, config.width // reduction)
        self.project = nn.Sequential(
            nn.Linear(config.latent_dim, self.bottom[0] * self.bottom[1] * self.bottom[2]), nn.LeakyReLU(0.1)
        )
        widths = config.channels[::-1]
        self.stages = nn.Sequential(*(up(before, after) for before, after in itertools.pairwise(widths)))
        self.to_rgb = nn.ConvTranspose2d(widths[-1], 3, 4, stride=2, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        grid = self.project(latents).unflatten(1, self.bottom)
        logits: Tensor = self.to_rgb(self.stages(grid.contiguous(memory_format=torch.channels_last)))
        return logits.float()


class VAE(nn.Module):
    """Encoder and decoder together, as they are trained."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def forward(self, pictures: Tensor, noise: Tensor) -> tuple[Tensor, Posterior]:
        """Encode, draw, decode.

        Args:
            pictures: (N, 3, H, W) in 0..1.
            noise: (N, latent_dim) drawn from N(0, I); zeros decode the posterior mean.

        Returns:
            logits (N, 3, H, W) of the reconstructions, and the Posterior.
        """
        posterior: Posterior = self.encoder(pictures)
        return self.decoder(posterior.sample(noise)), posterior


def parameter_count(model: nn.Module) -> int:
    """Trainable numbers in a module."""
    return sum(parameter.numel() for parameter in model.parameters())
