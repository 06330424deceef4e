"""pythae's trainer on this repository's network.

Started as `python -m tests.performance.bench.peers.pythae_trainer RECIPE.json IMAGES.npy STEPS`. It writes
`ready`; then each line on standard input asks for STEPS steps and is answered by their seconds.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from torch import Tensor

from model_training.networks import vae as own
from model_training.recipe import Recipe


class Encoder(BaseEncoder):
    """This repository's encoder under the names that pythae expects."""

    def __init__(self, network: own.VAE) -> None:
        super().__init__()
        self.network = network.encoder

    def forward(self, images: Tensor) -> ModelOutput:
        """(N, 3, H, W) in 0..1 -> embedding, log_covariance."""
        mean, log_variance = self.network(images)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class Decoder(BaseDecoder):
    """This repository's decoder, which for pythae gives images in 0..1 and not logits."""

    def __init__(self, network: own.VAE) -> None:
        super().__init__()
        self.network, self.to_images = network.decoder, network.to_images

    def forward(self, latents: Tensor) -> ModelOutput:
        """(N, latent_dim) -> reconstruction."""
        return ModelOutput(reconstruction=self.to_images(self.network(latents)))


def trainer(recipe: Recipe, images: Tensor, out: str) -> BaseTrainer:
    """A trainer ready for its first epoch.

    Args:
        images: (N, H, W, 3) uint8, one epoch; each image's floats are made beforehand, as pythae does.
    """
    network = own.VAE(recipe.model)
    loss = "bce" if network.likelihood == "bernoulli" else "mse"
    config = VAEConfig(
        input_dim=(3, recipe.model.height, recipe.model.width),
        latent_dim=recipe.model.latent_dim,
        reconstruction_loss=loss,
    )
    floats = images.permute(0, 3, 1, 2).contiguous().float() / 255
    made = BaseTrainer(
        VAE(config, Encoder(network), Decoder(network)),
        BaseDataset(floats, torch.ones(len(floats))),
        training_config=BaseTrainerConfig(
            output_dir=out,
            per_device_train_batch_size=min(recipe.training.batch_size, len(floats)),
            learning_rate=recipe.training.learning_rate,
        ),
    )
    made.prepare_training()
    return made


def main(recipe: str, images: str, steps: str) -> None:
    """Warm up with one round, then answer."""
    chosen = Recipe.from_dict(json.loads(Path(recipe).read_text()))
    batch_size = chosen.training.batch_size
    array = np.load(images)
    rows = np.arange(int(steps) * min(batch_size, len(array))) % len(array)
    with tempfile.TemporaryDirectory() as out:
        made = trainer(chosen, torch.from_numpy(array[rows]), out)
        made.train_step(1)
        print("ready", flush=True)
        for epoch, _ in enumerate(sys.stdin, start=2):
            began = time.perf_counter()
            made.train_step(epoch)  # reads every loss, so a GPU has finished when it returns
            print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
