"""Fit of the prior (command fit-prior) to training latents: a Gaussian, a coarse flow, a fine flow.

The decoder only knows the region of latent space that the encoder uses, and that region is not N(0, I): the
dimensions of the aggregate posterior depend on each other (Dai & Wipf 2019). Fitting it afterwards is ex-post
density estimation (Ghosh et al. 2020). A Gaussian with the right covariance already gives cars, of which the
parts do not agree; the coarse flow learns what is left between it and the latents in what is coarse, and the
fine flow which fine structure fits.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from app.images.arrays import ImageArray
from app.model.latents import standard_draws
from app.model.prior import COARSE_PREFIX, FINE_PREFIX
from app.model.prior_networks import CoarseGenerator
from model_training.backends.base import Backend, Floats
from model_training.data.augmentation import augment
from model_training.prior.coarse_flow import fit_coarse_flow
from model_training.prior.fine_flow import fit_fine_flow
from model_training.prior.latent_images import latent_image_basis
from model_training.prior.targets import Targets
from model_training.prior_recipe import RECORD, PriorConfig
from model_training.torch_utils import to_float

AUGMENTATION_BATCH = 512
"""Images that are changed at a time."""

Doubles = NDArray[np.float64]


class Posteriors(NamedTuple):
    """Means and standard deviations, each (N, latent_dim) float32."""

    mean: Floats
    std: Floats


class Gaussian(NamedTuple):
    """Mean (L,) and lower triangular factor of the covariance (L, L)."""

    mean: Doubles
    cholesky: Doubles


class FittedPrior(NamedTuple):
    """A Gaussian; the arrays of the coarse generator, and of the fine one unless the coarse one moves all
    coordinates; and what they were fitted by."""

    gaussian: Gaussian
    coarse: dict[str, Floats]
    fine: dict[str, Floats]
    config: PriorConfig


def fit_prior(backend: Backend, images: ImageArray, held_out: ImageArray, config: PriorConfig) -> FittedPrior:
    """Fit a prior to the latents of images.

    Args:
        images: (N, height, width, 3) uint8.
        held_out: others, which the logged losses are of.

    Raises:
        ValueError: fewer latents than dimensions.
    """
    encoded = posteriors(backend, images, config.copies, config.augmentation, config.seed)
    plain = Posteriors(*(part[: 2 * len(images)] for part in encoded))
    gaussian = fit_gaussian(plain, config.shrinkage, config.seed)
    unseen = posteriors(backend, held_out, 0, config.augmentation, config.seed + 1)
    known, unknown = (whitened_targets(part, gaussian) for part in (encoded, unseen))
    basis = latent_image_basis(known.means[: len(images)], images, config.latent_images)
    count = config.coarse.coordinates
    coarse = fit_coarse_flow(known.leading(count), unknown.leading(count), basis[:count], config)
    if len(gaussian.mean) <= count:
        return FittedPrior(gaussian, coarse, {}, config)
    noise = standard_draws(config.fine.draws, count, config.seed).astype(np.float64)
    drawn = torch.from_numpy(CoarseGenerator(coarse)(noise).astype(np.float32))
    fine = fit_fine_flow(known, unknown, basis, drawn, config)
    return FittedPrior(gaussian, coarse, fine, config)


def posteriors(backend: Backend, images: ImageArray, copies: int, strength: float, seed: int) -> Posteriors:
    """Posteriors of images, of their mirror images and of changed copies, half of them mirrored too.

    Args:
        images: (N, height, width, 3) uint8.
        copies: how many changed ones of each.
        strength: how much they are changed.

    Returns:
        N (2 + copies) of them, the images' own first.
    """
    generator = torch.Generator().manual_seed(seed)
    encoded = []
    for number in range(2 + copies):
        sources = np.ascontiguousarray(images[:, :, ::-1] if number % 2 else images)
        encoded.append(backend.encode(_changed(sources, strength, generator) if number > 1 else sources))
    mean, log_variance = (np.concatenate(part) for part in zip(*encoded, strict=True))
    return Posteriors(mean, np.exp(0.5 * log_variance))


def _changed(images: ImageArray, strength: float, generator: torch.Generator) -> ImageArray:
    chunks = [
        (augment(to_float(chunk), generator, strength) * 255).round().byte().permute(0, 2, 3, 1)
        for chunk in torch.split(torch.from_numpy(images), AUGMENTATION_BATCH)
    ]
    changed: ImageArray = np.ascontiguousarray(torch.cat(chunks).numpy())
    return changed


def fit_gaussian(encoded: Posteriors, shrinkage: float, seed: int) -> Gaussian:
    """The Gaussian of one draw from each posterior, `shrinkage` added to its variances.

    Draws and not means: the decoder was trained on draws, and means vary less where the posterior is wide.

    Raises:
        ValueError: fewer latents than dimensions.
    """
    count, dimensions = encoded.mean.shape
    if count <= dimensions:
        raise ValueError(f"{count} latents are too few to fit a density in {dimensions} dimensions")
    noise = np.random.default_rng(seed).standard_normal(encoded.mean.shape)
    latents = encoded.mean + encoded.std * noise
    covariance = np.cov(latents.T).reshape(dimensions, dimensions) + shrinkage * np.eye(dimensions)
    return Gaussian(latents.mean(axis=0), np.asarray(np.linalg.cholesky(covariance), dtype=np.float64))


def whitened_targets(encoded: Posteriors, gaussian: Gaussian) -> Targets:
    """Posteriors in the coordinates that the Gaussian whitens; errors weigh by how narrow the posteriors are,
    as there the decoder tells latents apart."""
    unfactor = np.linalg.inv(gaussian.cholesky).T
    weight = 1 / np.sqrt((encoded.std**2).mean(axis=0))
    return Targets(
        torch.from_numpy(((encoded.mean - gaussian.mean) @ unfactor).astype(np.float32)),
        torch.from_numpy(encoded.std),
        torch.from_numpy(unfactor.astype(np.float32)),
        torch.from_numpy(weight / weight.mean()),
    )


def save_prior(prior: FittedPrior, path: Path) -> None:
    """Write what app.model.prior.read_prior reads, plain arrays, of which networks need few digits; and what
    it was fitted by."""
    networks = {f"{COARSE_PREFIX}{name}": values for name, values in prior.coarse.items()}
    networks |= {f"{FINE_PREFIX}{name}": values for name, values in prior.fine.items()}
    arrays: dict[str, NDArray[Any]] = {
        "weights": np.ones(1),
        "means": prior.gaussian.mean[np.newaxis],
        "cholesky": prior.gaussian.cholesky[np.newaxis].astype(np.float32),
        **{name: values.astype(np.float16) for name, values in networks.items()},
        RECORD: prior.config.record(),
    }
    np.savez(path, **arrays)  # type: ignore[arg-type]
