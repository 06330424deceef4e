"""Latent search of the command compress: latents nearer to their images than the encoder's.

An encoder has one pass for every image and leaves a part of what the decoder could show unsaid (the
amortisation gap: Cremer et al. 2018). Where bytes count and half a second does not, the most probable latent
is looked for instead: Gauss-Newton steps from the encoder's mean, with the decoder's derivatives taken as
differences, so that the exported decoder is all that is needed.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.codes.compressor import Doubles, Floats, Statistics

ITERATIONS = 2
"""The first gains three quarters of what four would, the second two thirds of the rest."""

DIFFERENCE = 4.0
"""Widths of a posterior that one coefficient is moved by: at a quarter of it, rounding to grey levels hides
much of what the decoder does; at twice it, nothing is gained."""

ROUNDING = 1 / 12
"""Variance that rounding to grey levels leaves."""

LEAST_DEVIATION = 1e-3
"""Widths of a posterior: axes along which the training latents never vary must not be divided by 0."""


class Decoder(Protocol):
    """Whatever decodes latents."""

    def decode(self, latents: Floats) -> NDArray[np.uint8]:
        """(N, latent_dim) float32 -> (N, height, width, 3) uint8."""
        ...


def search(decoder: Decoder, statistics: Statistics, images: NDArray[np.uint8], latents: Floats) -> Floats:
    """The most probable latents, where errors and coefficients are taken for Gaussian.

    Args:
        statistics: of the training set.
        images: (N, height, width, 3) uint8.
        latents: (N, L) float32 to begin from: the encoder's means.

    Returns:
        (N, L) float32, none less probable than where it began; some 2 L images are decoded for each.
    """
    found = [
        _search_one(decoder, statistics, image.reshape(-1).astype(np.float32), coefficients)
        for image, coefficients in zip(images, statistics.coefficients(latents), strict=True)
    ]
    return statistics.latents(np.stack(found))


def _search_one(decoder: Decoder, statistics: Statistics, image: Floats, start: Doubles) -> Doubles:
    """Minimise |image - decoded|^2 / variance + |coefficients / deviations|^2 from start (L,) on."""

    def decode(coefficients: Doubles) -> Floats:
        decoded = decoder.decode(statistics.latents(coefficients))
        return decoded.reshape(len(decoded), -1).astype(np.float32)

    moves = np.concatenate((np.zeros((1, len(start))), DIFFERENCE * np.eye(len(start))))
    variance = float(np.mean((image - decode(start[np.newaxis])) ** 2)) + ROUNDING
    weights = variance / np.maximum(statistics.deviations, LEAST_DEVIATION) ** 2
    coefficients = start
    for _ in range(ITERATIONS):
        decoded = decode(coefficients + moves)
        error = image - decoded[0]
        jacobian = (decoded[1:] - decoded[0]) / DIFFERENCE  # transposed: (L, values)
        curvature = (jacobian @ jacobian.T).astype(np.float64) + np.diag(weights)
        step = np.linalg.solve(curvature, jacobian @ error - weights * coefficients)
        tried = np.stack((coefficients, coefficients + step))
        errors = ((image - decode(tried)) ** 2).sum(axis=1)
        coefficients = tried[np.argmin(errors + tried**2 @ weights)]
    return coefficients
