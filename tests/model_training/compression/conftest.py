"""A backend whose latents can be computed by hand."""

import numpy as np

from app.images.arrays import ImageArray
from model_training.backends.base import Floats

BLOCK = 4


class Blocks:
    """A backend whose latents are the mean colours of blocks, known to within about a grey level."""

    width, height = 24, 16
    latent_dim = (width // BLOCK) * (height // BLOCK) * 3

    def encode(self, images: ImageArray) -> tuple[Floats, Floats]:
        blocks = images.reshape(-1, self.height // BLOCK, BLOCK, self.width // BLOCK, BLOCK, 3)
        mean = blocks.mean(axis=(2, 4)).reshape(len(images), -1).astype(np.float32)
        return mean, np.zeros_like(mean)

    def decode(self, latents: Floats) -> ImageArray:
        blocks = latents.reshape(-1, self.height // BLOCK, self.width // BLOCK, 3)
        levels = np.clip(np.rint(blocks), 0, 255).astype(np.uint8)
        return levels.repeat(BLOCK, axis=1).repeat(BLOCK, axis=2)

    def refine(self, _images: ImageArray, latents: Floats) -> Floats:
        return latents
