"""Refiner: latents that decode nearer to their images, by preconditioned conjugate gradients.

An encoder has one pass for every image and lands about 0.8 dB short of the best latent. From there a few
steps descend the squared error of this very image, plus how unlikely the latent is under a Gaussian of the
training latents. Each step costs three decodes: the image, the gradient, and the curvature along the
direction, which gives the length of the step (Gauss-Newton). One preconditioner serves all images, since the
decoder is nearly linear.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_training.networks.subpixel_vae import CELL, Decoder
from model_training.refinement.decoder_derivatives import DecoderDerivatives, Entry
from model_training.torch_utils import to_float

STEPS = 4
"""The fifth brings less than 0.05 dB."""

PRIOR_STRENGTH = 0.0075
"""Of the latent's likelihood beside the squared error: about the variance of what no latent can say."""

TINY = 1e-20


class RefinerStatistics(NamedTuple):
    """What the solver needs to know of the latents and of the decoder; matrices of values that float16 holds.

    Attributes:
        mean: (L,) of the training latents.
        precision: (L, L), the inverse of their covariance.
        preconditioner: (L, L), the inverse of the mean curvature of what is minimised; of any scale, as that
            changes no step.
    """

    mean: Tensor
    precision: Tensor
    preconditioner: Tensor


class Refiner(nn.Module):
    """(N, H, W, 3) uint8 images and their latents (N, L) -> latents that decode at least as near to them."""

    def __init__(self, decoder: Decoder, statistics: RefinerStatistics, steps: int = STEPS) -> None:
        """Make a refiner of a decoder whose batch norms are folded."""
        super().__init__()
        self.decoder = DecoderDerivatives(decoder)
        self.steps = steps
        self.register_buffer("mean", statistics.mean)
        self.register_buffer("precision", statistics.precision)
        self.register_buffer("preconditioner", statistics.preconditioner)
        self.mean: Tensor
        self.precision: Tensor
        self.preconditioner: Tensor

    def forward(self, images: Tensor, latents: Tensor) -> Tensor:
        target = F.pixel_unshuffle(to_float(images), CELL)
        refined, before, entry = self.descend(target, latents)
        after, _ = self.decoder(entry)
        return torch.where(_error(target, after.clamp(0, 1)) < _error(target, before), refined, latents)

    def descend(self, target: Tensor, latents: Tensor) -> tuple[Tensor, Tensor, Entry]:
        """The steps alone.

        Args:
            target: (N, 48, H / 4, W / 4), images as cells in 0..1.

        Returns:
            the latents after the last step; the images of those before the first, as cells in 0..1; and where
            the former enter the decoder.
        """
        entry = self.decoder.enter(latents)
        before: Tensor | None = None
        direction: Tensor | None = None
        preconditioned = gain = torch.zeros(0)
        for _ in range(self.steps):
            cells, slopes = self.decoder(entry)
            images = cells.clamp(0, 1)
            before = images if before is None else before
            inside = ((cells > 0) & (cells < 1)).to(cells.dtype)
            error = (target - images) * inside
            unlikely = (latents - self.mean) @ self.precision
            gradient = self.decoder.pull_back(slopes, error) - PRIOR_STRENGTH * unlikely
            previous, preconditioned = preconditioned, gradient @ self.preconditioner
            previous_gain, gain = gain, _dot(gradient, preconditioned)
            if direction is None:
                direction = preconditioned
            else:  # Polak and Ribiere's, begun anew where it would go back
                kept = (gain - _dot(gradient, previous)) / (previous_gain + TINY)
                direction = preconditioned + kept.clamp_min(0) * direction
            change, entry_change = self.decoder.push_forward(slopes, direction)
            curvature = (change * inside).square().sum((1, 2, 3))[:, None]
            curvature = curvature + PRIOR_STRENGTH * _dot(direction @ self.precision, direction)
            length = _dot(gradient, direction) / (curvature + TINY)
            latents, entry = latents + length * direction, entry.moved(length, entry_change)
        assert before is not None
        return latents, before, entry


def _error(target: Tensor, images: Tensor) -> Tensor:
    """Squared error in grey levels of images that are rounded to them, (N, 1)."""
    difference: Tensor = (images * 255).round() - target * 255
    return difference.square().sum((1, 2, 3))[:, None]


def _dot(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).sum(1, keepdim=True)
