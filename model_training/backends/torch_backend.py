"""The best checkpoint of a training run, used through PyTorch exactly as the exported graphs compute it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from app.images.arrays import ImageArray
from model_training import checkpoint
from model_training.backends.base import BATCH, Floats
from model_training.networks.vae import VAE
from model_training.recipe import Recipe
from model_training.run_folder import BEST
from model_training.torch_utils import to_float


class EncoderGraph(nn.Module):
    """The encoder as it is served: pictures (N, height, width, 3) uint8 -> mean, log_variance."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.encoder = model.encoder

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.encoder(to_float(pictures))
        return mean, log_variance


class DecoderGraph(nn.Module):
    """The decoder as it is served: latents (N, latent_dim) -> pictures (N, height, width, 3) uint8."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.decoder, self.to_pictures = model.decoder, model.to_pictures

    def forward(self, latents: Tensor) -> Tensor:
        grey_levels = (self.to_pictures(self.decoder(latents)) * 255).round()
        pictures: Tensor = grey_levels.to(torch.uint8).permute(0, 2, 3, 1)
        return pictures


class TorchBackend:
    """A run's best model, in float32 on the CPU."""

    def __init__(self, run: Path) -> None:
        self.state: dict[str, Any] = checkpoint.load(run / BEST)
        self.recipe = Recipe.from_dict(self.state["recipe"])
        self.model = VAE(self.recipe.model)
        self.model.load_state_dict(self.state["model"])
        self.model.eval()
        self.width, self.height = self.recipe.model.width, self.recipe.model.height
        self.latent_dim = self.recipe.model.latent_dim
        self._encoder = EncoderGraph(self.model)
        self._decoder = DecoderGraph(self.model)

    def encode(self, pixels: ImageArray) -> tuple[Floats, Floats]:
        with torch.inference_mode():
            parts = [self._encoder(chunk) for chunk in torch.split(torch.from_numpy(pixels), BATCH)]
        return torch.cat([p[0] for p in parts]).numpy(), torch.cat([p[1] for p in parts]).numpy()

    def decode(self, latents: Floats) -> ImageArray:
        with torch.inference_mode():
            parts = [self._decoder(chunk) for chunk in torch.split(torch.from_numpy(latents), BATCH)]
        pixels: ImageArray = np.ascontiguousarray(torch.cat(parts).numpy())
        return pixels
