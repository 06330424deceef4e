"""A density fitted to the latents of the training set, so that what is drawn from it looks like cars.

The decoder only knows the region of latent space that the encoder uses, and that region is not N(0, I): the
dimensions of the aggregate posterior depend on each other (Dai & Wipf 2019). Fitting it afterwards is ex-post
density estimation (Ghosh et al. 2020). A Gaussian with the right covariance already gives cars, of which the
parts do not agree; a flow learns what is left between it and the latents.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from app.images import Pixels
from model_training.augmentation import augment
from model_training.codec import Codec, Floats
from model_training.flow import COORDINATES, Targets
from model_training.train import to_float

PRIOR = "prior.npz"

COPIES, STRENGTH = 10, 0.5
"""Changed copies of each picture, beside itself and its mirror image, and how much they are changed: with
fewer the flow soon knows its latents by heart."""

BATCH = 512
SHRINKAGE = 1e-3
"""Added to each variance, it keeps the covariance of few pictures invertible."""

Doubles = NDArray[np.float64]


class Posteriors(NamedTuple):
    """Means and standard deviations, each (N, latent_dim) float32."""

    mean: Floats
    std: Floats


class Gaussian(NamedTuple):
    """Mean (L,) and lower triangular factor of the covariance (L, L)."""

    mean: Doubles
    cholesky: Doubles


def posteriors(codec: Codec, pixels: Pixels, copies: int, seed: int) -> Posteriors:
    """Posteriors of pictures, of their mirror images and of changed copies, half of them mirrored too.

    Args:
        pixels: (N, height, width, 3) uint8.
        copies: how many changed ones of each.

    Returns:
        N (2 + copies) of them, the pictures' own first.
    """
    generator = torch.Generator().manual_seed(seed)
    encoded = []
    for number in range(2 + copies):
        pictures = np.ascontiguousarray(pixels[:, :, ::-1] if number % 2 else pixels)
        encoded.append(codec.encode(_changed(pictures, generator) if number > 1 else pictures))
    mean, log_variance = (np.concatenate(part) for part in zip(*encoded, strict=True))
    return Posteriors(mean, np.exp(0.5 * log_variance))


def _changed(pixels: Pixels, generator: torch.Generator) -> Pixels:
    chunks = [
        (augment(to_float(chunk), generator, STRENGTH) * 255).round().byte().permute(0, 2, 3, 1)
        for chunk in torch.split(torch.from_numpy(pixels), BATCH)
    ]
    changed: Pixels = np.ascontiguousarray(torch.cat(chunks).numpy())
    return changed


def fit_gaussian(encoded: Posteriors, seed: int = 0) -> Gaussian:
    """The Gaussian of one draw from each posterior.

    Draws and not means: the decoder was trained on draws, and means vary less where the posterior is wide.

    Raises:
        ValueError: fewer latents than dimensions.
    """
    count, dimensions = encoded.mean.shape
    if count <= dimensions:
        raise ValueError(f"{count} latents are too few to fit a density in {dimensions} dimensions")
    noise = np.random.default_rng(seed).standard_normal(encoded.mean.shape)
    latents = encoded.mean + encoded.std * noise
    covariance = np.cov(latents.T).reshape(dimensions, dimensions) + SHRINKAGE * np.eye(dimensions)
    return Gaussian(latents.mean(axis=0), np.asarray(np.linalg.cholesky(covariance), dtype=np.float64))


def flow_targets(encoded: Posteriors, gaussian: Gaussian) -> Targets:
    """Posteriors in the coordinates that the Gaussian whitens; errors weigh by how narrow the posteriors are,
    as there the decoder tells latents apart."""
    coordinates = min(COORDINATES, encoded.mean.shape[1])
    unfactor = np.linalg.inv(gaussian.cholesky).T[:, :coordinates]
    weight = 1 / np.sqrt((encoded.std**2).mean(axis=0))[:coordinates]
    return Targets(
        torch.from_numpy(((encoded.mean - gaussian.mean) @ unfactor).astype(np.float32)),
        torch.from_numpy(encoded.std),
        torch.from_numpy(unfactor.astype(np.float32)),
        torch.from_numpy(weight / weight.mean()),
    )


def save(gaussian: Gaussian, flow: dict[str, Floats], path: Path) -> None:
    """Write what app.latents.read_prior reads: plain arrays, of which a flow needs few digits."""
    np.savez(
        path,
        weights=np.ones(1),
        means=gaussian.mean[np.newaxis],
        cholesky=gaussian.cholesky[np.newaxis].astype(np.float32),
        **{f"flow_{name}": values.astype(np.float16) for name, values in flow.items()},  # type: ignore[arg-type]
    )
