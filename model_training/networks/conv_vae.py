"""Convolutional VAE: strided convolutions down to the posterior, transposed ones back up (recipe seed)."""

import itertools

import torch
from torch import Tensor, nn

from model_training.networks.layers import LEAK, LOG_VARIANCE_RANGE, Posterior, down, up
from model_training.recipe import ConvVaeConfig


class Encoder(nn.Module):
    """(N, 3, H, W) in 0..1 -> Posterior."""

    def __init__(self, config: ConvVaeConfig) -> None:
        super().__init__()
        stages = zip((3, *config.channels[:-1]), config.channels, strict=True)
        self.stages = nn.Sequential(*(down(before, after) for before, after in stages))
        reduction = 2 ** len(config.channels)
        features = config.channels[-1] * (config.height // reduction) * (config.width // reduction)
        self.mean = nn.Linear(features, config.latent_dim)
        self.log_variance = nn.Linear(features, config.latent_dim)

    def forward(self, images: Tensor) -> Posterior:
        features = self.stages(images).flatten(1)
        mean, log_variance = self.mean(features).float(), self.log_variance(features).float()
        return Posterior(mean, log_variance.clamp(*LOG_VARIANCE_RANGE))


class Decoder(nn.Module):
    """(N, latent_dim) -> logits of the images, (N, 3, H, W) float32; their sigmoid is in 0..1."""

    def __init__(self, config: ConvVaeConfig) -> None:
        super().__init__()
        reduction = 2 ** len(config.channels)
        self.bottom = (config.channels[-1], config.height // reduction, config.width // reduction)
        self.project = nn.Sequential(
            nn.Linear(config.latent_dim, self.bottom[0] * self.bottom[1] * self.bottom[2]), nn.LeakyReLU(LEAK)
        )
        widths = config.channels[::-1]
        self.stages = nn.Sequential(*(up(before, after) for before, after in itertools.pairwise(widths)))
        self.to_rgb = nn.ConvTranspose2d(widths[-1], 3, 4, stride=2, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        grid = self.project(latents).unflatten(1, self.bottom)
        logits: Tensor = self.to_rgb(self.stages(grid.contiguous(memory_format=torch.channels_last)))
        return logits.float()
