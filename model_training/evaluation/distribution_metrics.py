"""Metrics of distributions: Frechet distance, precision and recall, nearest neighbours, aggregate posterior.

Images are compared by points that stand for them: features of a network, or thumbnails.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.images.arrays import ImageArray

Points = NDArray[np.float32]

NEIGHBOURS = 3
"""Of the balls that precision and recall are counted by (Kynkaanniemi et al. 2019)."""

ROWS = 512
"""So many rows of a matrix of distances are held at a time."""

THUMBNAIL_BLOCK = 4
"""Pixels of a side that a thumbnail averages to one."""


def frechet_distance(some: Points, others: Points) -> float:
    """Squared Frechet distance of the Gaussians fitted to two sets of points (Dowson and Landau 1982).

    |m - n|^2 + tr A + tr B - 2 tr (A^1/2 B A^1/2)^1/2, in float64. It grows with the points' scale, and small
    sets make it too large: for F standard normal features of n and m points by about
    (F + F (F + 1) / 4) (1 / n + 1 / m). Compare only what was measured with the same features and counts.

    Args:
        some, others: (N, F) and (M, F).
    """
    a, b = some.astype(np.float64), others.astype(np.float64)
    offset = a.mean(axis=0) - b.mean(axis=0)
    covariance_a, covariance_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(covariance_a)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    product = np.linalg.eigvalsh(root @ covariance_b @ root)
    traces = np.trace(covariance_a) + np.trace(covariance_b) - 2 * np.sqrt(np.maximum(product, 0)).sum()
    return float(offset @ offset + traces)


def precision_recall(real: Points, generated: Points) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi et al. 2019).

    Precision is the fraction of the generated points that lie in the ball of a real one, up to its third
    nearest real neighbour; recall is the same with the roles exchanged. Points drawn from the same density
    have both alike, well below 1. The balls grow where points are few: compare sets of the same count alone.

    Args:
        real, generated: (N, F), more than NEIGHBOURS of each.
    """
    return _covered(generated, real), _covered(real, generated)


def nearest_distances(points: Points, references: Points) -> Points:
    """Euclidean distance of each of (N, F) points to the nearest of (M, F) references, (N,)."""
    parts = [
        _squared_distances(points[i : i + ROWS], references).min(axis=1) for i in range(0, len(points), ROWS)
    ]
    distances: Points = np.sqrt(np.concatenate(parts))
    return distances


def thumbnails(images: ImageArray) -> Points:
    """Means of squares of THUMBNAIL_BLOCK x THUMBNAIL_BLOCK pixels, (N, values) float32.

    Scaled so that the Euclidean distance of two rows is their root mean square difference in grey levels.
    """
    count, height, width, channels = images.shape
    rows, columns = height // THUMBNAIL_BLOCK, width // THUMBNAIL_BLOCK
    whole = images[:, : rows * THUMBNAIL_BLOCK, : columns * THUMBNAIL_BLOCK]
    squares = whole.reshape(count, rows, THUMBNAIL_BLOCK, columns, THUMBNAIL_BLOCK, channels)
    means = squares.mean(axis=(2, 4), dtype=np.float32).reshape(count, -1)
    scaled: Points = means / np.float32(np.sqrt(means.shape[1]))
    return scaled


class Smoothness(NamedTuple):
    """Of paths between pairs of points, medians over the paths; both are 1 for a steady straight one."""

    length: float
    """All steps together over the straight distance of the ends."""
    largest_step: float
    """The largest step over the mean one."""


def smoothness(paths: Points) -> Smoothness:
    """Of (P, steps + 1, F) points along P paths."""
    steps = np.linalg.norm(np.diff(paths, axis=1), axis=2)
    straight = np.linalg.norm(paths[:, -1] - paths[:, 0], axis=1)
    moving = straight > 0
    steps, straight = steps[moving], straight[moving]
    return Smoothness(
        float(np.median(steps.sum(axis=1) / straight)),
        float(np.median(steps.max(axis=1) / steps.mean(axis=1))),
    )


def aggregate_posterior(draws: Points) -> dict[str, float]:
    """How far latents are from N(0, I), by the Gaussian N(m, S) fitted to them, in float64.

    Args:
        draws: (N, L), one draw from the posterior of each image, N > L.

    Returns:
        largest_mean, the largest |m| of a dimension; least_, median_ and largest_variance of a dimension;
        total_correlation, KL(N(m, S) || N(m, diag S)), and kl_to_standard, KL(N(m, S) || N(0, I)), in nats.
        Both are too large by about L * L / 4N for a finite N, and neither sees what a Gaussian does not.
    """
    latents = draws.astype(np.float64)
    mean, covariance = latents.mean(axis=0), np.cov(latents, rowvar=False)
    variances = np.diag(covariance)
    log_determinant = float(np.linalg.slogdet(covariance).logabsdet)
    log_variances = float(np.log(variances).sum())
    return {
        "largest_mean": float(np.abs(mean).max()),
        "least_variance": float(variances.min()),
        "median_variance": float(np.median(variances)),
        "largest_variance": float(variances.max()),
        "total_correlation": 0.5 * (log_variances - log_determinant),
        "kl_to_standard": 0.5 * float(variances.sum() + mean @ mean - len(mean) - log_determinant),
    }


def _covered(points: Points, centres: Points) -> float:
    """The fraction of the points that lie in the ball of at least one centre."""
    radii = np.empty(len(centres), dtype=np.float32)
    for start in range(0, len(centres), ROWS):
        squares = _squared_distances(centres[start : start + ROWS], centres)
        rows = np.arange(len(squares))
        squares[rows, start + rows] = -1  # itself comes first, whatever the rounding
        radii[start : start + ROWS] = np.partition(squares, NEIGHBOURS, axis=1)[:, NEIGHBOURS]
    inside = [
        (_squared_distances(points[i : i + ROWS], centres) <= radii).any(axis=1)
        for i in range(0, len(points), ROWS)
    ]
    return float(np.concatenate(inside).mean())


def _squared_distances(points: Points, references: Points) -> Points:
    """Squared distances (N, M), by one matrix product."""
    centre = references.mean(axis=0)  # what is near zero loses less to rounding
    a, b = points - centre, references - centre
    squares: Points = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * (a @ b.T)
    return np.maximum(squares, 0, out=squares)
