"""Fit of the refiner (command fit-refiner): what its solver needs to know of latents and decoder."""

import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model_training.networks.subpixel_vae import Decoder
from model_training.networks.vae import VAE
from model_training.refinement.decoder_derivatives import DecoderDerivatives
from model_training.refinement.refiner import PRIOR_STRENGTH, RefinerStatistics
from model_training.torch_utils import fold_batch_norms

CURVATURE_IMAGES = 96
"""The curvatures of cars are so alike that more change nothing."""


def fit_refiner(decoder: Decoder, latents: NDArray[np.float32]) -> RefinerStatistics:
    """Statistics of the latents of training images, (N, L), and the decoder's mean curvature at some of them.

    Args:
        decoder: its batch norms folded.

    Raises:
        ValueError: no more latents than dimensions.
    """
    count, dimensions = latents.shape
    if count <= dimensions:
        raise ValueError(f"{count} latents are too few for statistics in {dimensions} dimensions")
    precision = torch.from_numpy(np.linalg.inv(np.cov(latents.T.astype(np.float64))))
    chosen = latents[:: max(1, count // CURVATURE_IMAGES)][:CURVATURE_IMAGES]
    curvature = mean_curvature(decoder, torch.from_numpy(chosen)).double() + PRIOR_STRENGTH * precision
    preconditioner = torch.linalg.inv(curvature)
    return RefinerStatistics(
        torch.from_numpy(latents.mean(0)),
        precision.half().float(),
        (preconditioner / preconditioner.diagonal().max()).half().float(),
    )


def folded_decoder(model: VAE) -> Decoder:
    """A copy of a model's decoder, its batch norms folded.

    Raises:
        ValueError: it is of an architecture whose derivatives nobody has written.
    """
    if not isinstance(model.decoder, Decoder):
        raise ValueError(f"there is no refiner for the architecture {model.config.architecture!r}")
    return fold_batch_norms(model.decoder)


@torch.no_grad()
def mean_curvature(decoder: Decoder, latents: torch.Tensor) -> torch.Tensor:
    """The mean of J^T J over (N, L) latents, (L, L): how fast the images change along each direction."""
    derivatives = DecoderDerivatives(decoder)
    dimensions = latents.shape[1]
    total = torch.zeros(dimensions, dimensions)
    everywhere = torch.eye(dimensions)
    for latent in latents:
        cells, slopes = derivatives(derivatives.enter(latent[None]))
        inside = (cells > 0) & (cells < 1)
        changes, _ = derivatives.push_forward(slopes, everywhere)
        inner = (changes * inside).flatten(1)
        total += inner @ inner.T
    return total / len(latents)


def save_refiner(statistics: RefinerStatistics, path: Path) -> None:
    """Write what `read_refiner` reads, plain arrays."""
    np.savez(path, **{name: value.numpy() for name, value in statistics._asdict().items()})


def read_refiner(path: Path) -> RefinerStatistics:
    """Read what `save_refiner` wrote."""
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
        return RefinerStatistics(*(torch.from_numpy(arrays[name]) for name in RefinerStatistics._fields))
