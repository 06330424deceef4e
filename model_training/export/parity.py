"""Parity of ONNX Runtime with PyTorch: the largest differences, which must stay below tolerances."""

import numpy as np
import torch
from torch import nn

from app.images.arrays import ImageArray
from app.images.quality import psnr
from app.model.manifest import Parity
from model_training.backends.base import Floats, Graphs
from model_training.backends.onnx_backend import BatchedSession

BATCH_SIZES = (1, 2, 7, 64)

LATENT_TOLERANCE = 1e-3
"""Largest difference allowed between the latents of PyTorch and of ONNX; rounding stays far below."""

GREY_LEVEL_TOLERANCE = 1
"""Values that float32 rounding puts on either side of .5 become neighbouring grey levels."""

REFINED_TOLERANCE = 0.05
"""Largest difference allowed, in dB of PSNR, between images of latents refined in PyTorch and in ONNX."""


class ParityError(ValueError):
    """The exported graphs do not compute what PyTorch computes."""


def check_parity(expected: Graphs, found: Graphs, images: ImageArray) -> Parity:
    """Largest differences between two forms of a model, with photographs and noise of the same size.

    Raises:
        ParityError: they exceed the tolerances.
    """
    random = np.random.default_rng(0)
    largest = np.zeros(3)
    for size in BATCH_SIZES:
        noise = random.integers(0, 256, (size, *images.shape[1:]), dtype=np.uint8)
        for inputs in (noise, images[np.arange(size) % len(images)]):
            mean, log_variance = found.encode(inputs)
            expected_mean, expected_log_variance = expected.encode(inputs)
            latents = draw_latents(expected_mean, expected_log_variance, random)
            difference = found.decode(latents).astype(int) - expected.decode(latents)
            largest = np.maximum(
                largest,
                [
                    np.abs(mean - expected_mean).max(),
                    np.abs(log_variance - expected_log_variance).max(),
                    np.abs(difference).max(),
                ],
            )
    parity = Parity(float(largest[0]), float(largest[1]), int(largest[2]))
    if not (
        parity.encoder_mean <= LATENT_TOLERANCE
        and parity.encoder_log_variance <= LATENT_TOLERANCE
        and parity.decoder_grey_levels <= GREY_LEVEL_TOLERANCE
    ):
        raise ParityError(
            f"the export differs from PyTorch by more than allowed: {parity}; nothing was written"
        )
    return parity


def check_refiner(expected: nn.Module, found: BatchedSession, graphs: Graphs, images: ImageArray) -> None:
    """Compare the images of latents that the refiner's two forms give: the latents themselves may differ by
    more than rounding where the image hardly changes.

    Raises:
        ParityError: PSNR differs by more than the tolerance, or an image is worse than before.
    """
    for size in BATCH_SIZES:
        rows = images[np.arange(size) % len(images)]
        start, _ = graphs.encode(rows)
        with torch.inference_mode():
            wanted = expected(torch.from_numpy(rows), torch.from_numpy(start)).numpy()
        (refined,) = found(rows, start)
        before, one, other = (psnr(rows, graphs.decode(latents)) for latents in (start, wanted, refined))
        largest = float(np.abs(one - other).max())
        if not (largest <= REFINED_TOLERANCE and (other >= before - REFINED_TOLERANCE).all()):
            raise ParityError(
                f"the refiner's graph differs from PyTorch by {largest:.3f} dB, or makes an image worse;"
                " nothing was written"
            )


def draw_latents(mean: Floats, log_variance: Floats, random: np.random.Generator) -> Floats:
    """One latent of each posterior."""
    latents: Floats = mean + np.exp(0.5 * log_variance) * random.standard_normal(mean.shape, np.float32)
    return latents
