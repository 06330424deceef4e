"""Backend of a training run: its best checkpoint in PyTorch, uint8 to uint8 as the exported graphs."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from app.images.arrays import ImageArray
from model_training import checkpoint
from model_training.backends.base import Floats, in_batches
from model_training.networks.vae import VAE
from model_training.recipe import Recipe
from model_training.refinement.fit import folded_decoder, read_refiner
from model_training.refinement.refiner import Refiner
from model_training.run_folder import BEST, REFINER
from model_training.torch_utils import to_float


class EncoderGraph(nn.Module):
    """The encoder as it is served: images (N, height, width, 3) uint8 -> mean, log_variance."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.encoder = model.encoder

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.encoder(to_float(images))
        return mean, log_variance


class DecoderGraph(nn.Module):
    """The decoder as it is served: latents (N, latent_dim) -> images (N, height, width, 3) uint8."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.decoder, self.to_images = model.decoder, model.to_images

    def forward(self, latents: Tensor) -> Tensor:
        grey_levels = (self.to_images(self.decoder(latents)) * 255).round()
        images: Tensor = grey_levels.to(torch.uint8).permute(0, 2, 3, 1)
        return images


class TorchGraphs:
    """The encoder and the decoder of a model in PyTorch, in float32 on the CPU."""

    def __init__(self, model: VAE) -> None:
        self._encoder, self._decoder = EncoderGraph(model), DecoderGraph(model)

    def encode(self, images: ImageArray) -> tuple[Floats, Floats]:
        with torch.inference_mode():
            posteriors = [self._encoder(torch.from_numpy(batch)) for batch in in_batches(images)]
        mean, log_variance = (torch.cat(part).numpy() for part in zip(*posteriors, strict=True))
        return mean, log_variance

    def decode(self, latents: Floats) -> ImageArray:
        with torch.inference_mode():
            parts = [self._decoder(torch.from_numpy(batch)) for batch in in_batches(latents)]
        images: ImageArray = np.ascontiguousarray(torch.cat(parts).numpy())
        return images


class TorchBackend:
    """The best model of a training run.

    Attributes:
        state: all that the checkpoint holds.
        recipe: what the run was trained by.
        model: in evaluation mode.
    """

    def __init__(self, run: Path) -> None:
        """Read a run.

        Raises:
            ValueError: it has no best model yet, or a damaged one.
        """
        self.state: dict[str, Any] = checkpoint.load(run / BEST)
        self.recipe = Recipe.from_dict(self.state["recipe"])
        self.model = VAE(self.recipe.model)
        self.model.load_state_dict(self.state["model"])
        self.model.eval()
        self.width, self.height = self.recipe.model.width, self.recipe.model.height
        self.latent_dim = self.recipe.model.latent_dim
        self._graphs = TorchGraphs(self.model)
        self._refiner: Refiner | None = None
        if (run / REFINER).is_file():
            self._refiner = Refiner(folded_decoder(self.model), read_refiner(run / REFINER))

    def encode(self, images: ImageArray) -> tuple[Floats, Floats]:
        return self._graphs.encode(images)

    def decode(self, latents: Floats) -> ImageArray:
        return self._graphs.decode(latents)

    def refine(self, images: ImageArray, latents: Floats) -> Floats:
        if self._refiner is None:
            return latents
        pairs = zip(in_batches(images), in_batches(latents), strict=True)
        with torch.inference_mode():
            parts = [self._refiner(*map(torch.from_numpy, pair)) for pair in pairs]
        refined: Floats = torch.cat(parts).numpy()
        return refined
