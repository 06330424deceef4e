"""Fit of the first layer: the axes of latents as the decoder shows them, and how often each value is met."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.codes.latent_layer import RATE_WEIGHT
from app.codes.range_coder import TOTAL
from app.codes.tables import OCTAVE, Floats, Integers
from model_training.backends.base import Backend

Doubles = NDArray[np.float64]

METRIC_LATENTS = 16
"""Latents whose derivatives are averaged."""
METRIC_OFFSET = 0.3
"""Standard deviations of a latent's number between the pictures that a derivative is taken from."""
LEAST_RATIO = 0.2
"""Deviation in steps from which on a coefficient is coded."""
CLASSES = 96
REACH = 40
COARSEST = 2.0
"""Deviations of the leading coefficient in a step of the coarsest setting are 1 / this."""


@dataclass(frozen=True)
class Axes:
    """Coefficients = (latent - mean) @ forward; a unit is a grey level, all pixels together."""

    mean: Doubles
    forward: Doubles
    inverse: Doubles
    deviations: Doubles
    """(L,) falling."""


def decoder_metric(backend: Backend, latents: Floats) -> Doubles:
    """(L, L): mean products of the picture's derivatives by the latent's numbers, at some latents."""
    count, dimensions = latents.shape
    offsets = (METRIC_OFFSET * latents.std(axis=0)).astype(np.float32) + np.float32(1e-6)
    metric = np.zeros((dimensions, dimensions))
    rounding = backend.width * backend.height * 3 / 6  # of two rounded pictures, squared
    for latent in latents[: min(count, METRIC_LATENTS)]:
        around = np.concatenate([latent + np.diag(offsets), latent - np.diag(offsets)])
        pictures = backend.decode(around.astype(np.float32)).reshape(2, dimensions, -1).astype(np.float32)
        changes = pictures[0] - pictures[1]
        products = (changes @ changes.T).astype(np.float64)
        products[np.diag_indices(dimensions)] = np.maximum(products.diagonal() - rounding, 1e-3)
        metric += products / (4 * np.outer(offsets, offsets))
    metric /= min(count, METRIC_LATENTS)
    values, vectors = np.linalg.eigh(metric)
    positive: Doubles = (vectors * np.maximum(values, values[-1] * 1e-9)) @ vectors.T
    return positive


def fit_axes(latents: Floats, metric: Doubles) -> Axes:
    """The principal axes of latents (N, L) where lengths are those of the metric.

    Raises:
        ValueError: no more latents than dimensions.
    """
    count, dimensions = latents.shape
    if count <= dimensions:
        raise ValueError(f"{count} latents are too few for statistics in {dimensions} dimensions")
    mean = latents.mean(axis=0, dtype=np.float64)
    centred = latents - mean
    covariance = centred.T @ centred / count
    root = np.linalg.cholesky(metric)
    variances, turned = np.linalg.eigh(root.T @ covariance @ root)
    turned = turned[:, ::-1]
    deviations = np.sqrt(np.maximum(variances[::-1], 1e-12))
    forward = root @ turned
    return Axes(mean, forward, np.linalg.solve(forward, np.eye(dimensions)), deviations)


def class_of(ratios: Doubles, least: float) -> Integers:
    """The class of deviations in steps; `least` begins class 0."""
    classes: Integers = np.floor(OCTAVE * np.log2(np.maximum(ratios, 1e-9) / least)).astype(np.int64)
    return np.maximum(classes, -250)


def ratio_of(place: int, least: float) -> float:
    """The middle of a class."""
    return float(least * 2 ** ((place + 0.5) / OCTAVE))


def fit_values(coefficients: Doubles, deviations: Doubles) -> tuple[Integers, Floats]:
    """Frequencies (CLASSES, 2 REACH + 1) and centroids (CLASSES, REACH + 1) of coefficients (N, L)."""
    pooled = np.abs(coefficients / deviations).ravel()
    pooled = pooled[:: max(1, len(pooled) // 150_000)]
    frequencies, centroids = [], []
    for place in range(CLASSES):
        magnitudes = pooled * ratio_of(place, LEAST_RATIO)
        chosen = np.minimum(np.rint(magnitudes), REACH).astype(np.int64)
        for _ in range(2):  # the choice follows from the frequencies, and they from the choice
            row, centroid = _frequencies(chosen), _centroids(magnitudes, chosen)
            bits = np.log2(TOTAL / row[REACH:])
            upper = np.minimum(np.rint(magnitudes), REACH).astype(np.int64)
            lower = np.maximum(upper - 1, 0)
            gain = (magnitudes - centroid[lower]) ** 2 - (magnitudes - centroid[upper]) ** 2
            chosen = np.where(gain > RATE_WEIGHT * (bits[upper] - bits[lower]), upper, lower)
        frequencies.append(_frequencies(chosen))
        centroids.append(_centroids(magnitudes, chosen))
    return np.stack(frequencies), np.stack(centroids).astype(np.float32)


def _frequencies(magnitudes: Integers) -> Integers:
    counts = np.bincount(magnitudes, minlength=REACH + 1) + 1e-3
    sides = counts[1:] / 2
    chances = np.concatenate([sides[::-1], counts[:1], sides]) / counts.sum()
    row: Integers = 1 + np.floor(chances * (TOTAL - len(chances))).astype(np.int64)
    row[REACH] += TOTAL - row.sum()
    return row


def _centroids(magnitudes: Doubles, chosen: Integers) -> Doubles:
    sums = np.bincount(chosen, magnitudes, minlength=REACH + 1)
    counts = np.bincount(chosen, minlength=REACH + 1)
    own: Doubles = np.arange(REACH + 1, dtype=np.float64)
    means: Doubles = np.where(counts > 10, sums / np.maximum(counts, 1), own)
    means[0] = 0
    return means
