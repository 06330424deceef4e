"""The fit of a compressor: statistics of the training images' latents."""

import numpy as np

from app.codes.compressor import Statistics
from app.images.arrays import ImageArray
from model_training.backends.base import Backend


def training_statistics(backend: Backend, pixels: ImageArray) -> Statistics:
    """The statistics of training pictures (N, height, width, 3) and of their mirror images."""
    plain = backend.encode(pixels)
    mirrored = backend.encode(np.ascontiguousarray(pixels[:, :, ::-1]))
    return Statistics.fit(*(np.concatenate(pair) for pair in zip(plain, mirrored, strict=True)))
