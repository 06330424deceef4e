"""Fit of a compressor (command fit-compressor): statistics of training latents and the tables that follow."""

import numpy as np

from app.codes.compressor import Compressor, Statistics
from app.images.arrays import ImageArray
from model_training.backends.base import Backend


def fit_compressor(backend: Backend, images: ImageArray, quantiser_step: float) -> Compressor:
    """The compressor of a model's latents; its `save` writes what `compress` and `decompress` read.

    Args:
        images: (N, height, width, 3) uint8, those that the model was trained on.
        quantiser_step: in widths of a typical posterior; a finer one keeps more in more bytes.

    Raises:
        ValueError: there are too few images, or the step is not positive or too fine.
    """
    return Compressor.fit(training_statistics(backend, images), quantiser_step)


def training_statistics(backend: Backend, images: ImageArray) -> Statistics:
    """The statistics of the latents of training images (N, height, width, 3) and of their mirror images."""
    posteriors = backend.encode(images)
    mirrored = backend.encode(np.ascontiguousarray(images[:, :, ::-1]))
    return Statistics.fit(*(np.concatenate(pair) for pair in zip(posteriors, mirrored, strict=True)))
