"""A density fitted to the latents of the training set, so that what is drawn from it looks like cars.

The decoder only knows the region of latent space that the encoder uses, and that region is not N(0, I): the
dimensions of the aggregate posterior depend on each other (Dai & Wipf 2019). Fitting it afterwards is ex-post
density estimation (Ghosh et al. 2020). A Gaussian with the right covariance already gives cars, of which the
parts do not agree; a flow learns what is left between it and the latents in what is coarse, and a network of
convolutions which fine structure fits.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from app.images.arrays import ImageArray
from app.model.latents import standard_draws
from app.model.prior_networks import CoarseGenerator
from model_training.backends.base import Backend, Floats
from model_training.data.augmentation import augment
from model_training.prior.coarse_flow import COORDINATES, fit_flow
from model_training.prior.fine_flow import fit_details
from model_training.prior.latent_images import principal_pictures
from model_training.prior.targets import Targets
from model_training.torch_utils import to_float

COPIES, STRENGTH = 10, 0.5
"""Changed copies of each picture, beside itself and its mirror image, and how much they are changed: with
fewer the flow soon knows its latents by heart."""

DETAIL_SHARE = 0.4
"""Of the flow's steps, for the details, whose steps are longer."""
DRAWS = 16_384
"""Of the flow, for the details to fit to."""

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


def fit(
    backend: Backend, pixels: ImageArray, held_out: ImageArray, steps: int
) -> tuple[Gaussian, dict[str, Floats], dict[str, Floats]]:
    """Fit a prior to the latents of pictures.

    Args:
        pixels: (N, height, width, 3) uint8.
        held_out: others, which the logged losses are of.
        steps: of the flow's training.

    Returns:
        a Gaussian, a flow and, where latents have more coordinates than it moves, details; else none.

    Raises:
        ValueError: fewer latents than dimensions.
    """
    encoded = posteriors(backend, pixels, COPIES, seed=0)
    gaussian = fit_gaussian(Posteriors(*(part[: 2 * len(pixels)] for part in encoded)))
    known, unknown = (targets(part, gaussian) for part in (encoded, posteriors(backend, held_out, 0, seed=1)))
    picture = principal_pictures(known.means[: len(pixels)], pixels)
    leading = known.leading(COORDINATES), unknown.leading(COORDINATES)
    flow = fit_flow(*leading, picture[:COORDINATES], steps)
    if len(gaussian.mean) <= COORDINATES:
        return gaussian, flow, {}
    drawn = CoarseGenerator(flow)(standard_draws(DRAWS, COORDINATES, seed=0).astype(np.float64))
    given = torch.from_numpy(drawn.astype(np.float32))
    return gaussian, flow, fit_details(known, unknown, picture, given, math.ceil(DETAIL_SHARE * steps))


def posteriors(backend: Backend, pixels: ImageArray, copies: int, seed: int) -> Posteriors:
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
        encoded.append(backend.encode(_changed(pictures, generator) if number > 1 else pictures))
    mean, log_variance = (np.concatenate(part) for part in zip(*encoded, strict=True))
    return Posteriors(mean, np.exp(0.5 * log_variance))


def _changed(pixels: ImageArray, generator: torch.Generator) -> ImageArray:
    chunks = [
        (augment(to_float(chunk), generator, STRENGTH) * 255).round().byte().permute(0, 2, 3, 1)
        for chunk in torch.split(torch.from_numpy(pixels), BATCH)
    ]
    changed: ImageArray = np.ascontiguousarray(torch.cat(chunks).numpy())
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


def targets(encoded: Posteriors, gaussian: Gaussian) -> Targets:
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


def save(gaussian: Gaussian, flow: dict[str, Floats], details: dict[str, Floats], path: Path) -> None:
    """Write what app.model.prior.read_prior reads: plain arrays, of which networks need few digits.

    `details` is empty where the flow moves all coordinates.
    """
    networks = {f"flow_{name}": values for name, values in flow.items()}
    networks |= {f"details_{name}": values for name, values in details.items()}
    np.savez(
        path,
        weights=np.ones(1),
        means=gaussian.mean[np.newaxis],
        cholesky=gaussian.cholesky[np.newaxis].astype(np.float32),
        **{name: values.astype(np.float16) for name, values in networks.items()},  # type: ignore[arg-type]
    )
