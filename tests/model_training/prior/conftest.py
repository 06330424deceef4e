"""Latents that a prior is fitted to, without a trained encoder."""

import dataclasses
from pathlib import Path

import numpy as np
import torch

from app.images.arrays import ImageArray
from app.model.prior import Prior, read_prior
from model_training.backends.base import Floats
from model_training.prior.coarse_flow import fit_coarse_flow
from model_training.prior.fit import FittedPrior, Posteriors, fit_gaussian, save_prior, whitened_targets
from tests.model_training.conftest import SMALL_PRIOR


class LinearBackend:
    """Latents of 70 numbers, which are weighted sums over the image."""

    width, height, latent_dim = 24, 16, 70

    def encode(self, images: ImageArray) -> tuple[Floats, Floats]:
        flat = images.reshape(len(images), -1) / 255
        mean = (flat @ np.random.default_rng(4).standard_normal((flat.shape[1], 70))).astype(np.float32)
        return mean, np.full_like(mean, -6.0)

    def decode(self, latents: Floats) -> ImageArray:
        raise AssertionError(f"a prior is fitted to latents, not to what becomes of {len(latents)}")


def narrow_posteriors(latents: np.ndarray) -> Posteriors:
    """Posteriors around latents, of which they hardly leave anything open."""
    mean = latents.astype(np.float32)
    return Posteriors(mean, np.full_like(mean, 0.01))


def prior_of_coarse_flow(latents: np.ndarray, path: Path, steps: int) -> Prior:
    """A prior whose coarse flow moves all coordinates, each shown in a cell of its own; saved and read."""
    config = dataclasses.replace(SMALL_PRIOR, steps=steps)
    encoded = narrow_posteriors(latents)
    gaussian = fit_gaussian(encoded, config.shrinkage, config.seed)
    targets = whitened_targets(encoded, gaussian)
    basis = torch.eye(latents.shape[1])[:, None, :, None]
    coarse = fit_coarse_flow(targets, targets, basis, config)
    save_prior(FittedPrior(gaussian, coarse, {}, config), path)
    return read_prior(path.read_bytes(), latents.shape[1])
