"""Fit of the second layer: components of what the decoder misses, and what foretells their magnitudes."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from app.codes.range_coder import TOTAL
from app.codes.residual_layer import DEAD_ZONE, ResidualLayer
from app.codes.tables import BLOCK, CUTS, VALUES, CodeTables, Floats, Integers
from model_training.compression.latent_fit import class_of

Doubles = NDArray[np.float64]

COMPONENTS = 64
COARSEST_STEP = 480.0
"""Grey levels, of an orthonormal component."""
LEAST_RATIO = 0.1
"""Deviation in steps from which on a component is coded in a block."""
CLASSES = 96
TRIED_STEPS = (16, 32, 48)
"""Indices of the steps that weights and frequencies are fitted at."""
UNIT = 64
"""What a weight of one magnitude for one more magnitude is as a whole number."""
REACH = 255
LEVELS = (1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 90, 128, 181)
"""Sums of weights at which a level begins."""
RIDGE = 30.0
PRIOR_COUNT = 12.0
"""Observations that a class is worth to each of its levels."""


@dataclass(frozen=True)
class Components:
    """The block transform, and how much each component varies in each block."""

    basis: Floats
    classes: Integers


def fit_components(residuals: Floats) -> Components:
    """From residuals (N, height, width, 3) in grey levels."""
    count, height, width, _ = residuals.shape
    rows, columns = height // BLOCK, width // BLOCK
    split = residuals.reshape(count, rows, BLOCK, columns, BLOCK, 3).transpose(0, 1, 3, 2, 4, 5)
    blocks = split.reshape(-1, VALUES)
    some = blocks[:: max(1, len(blocks) // 60_000)]
    _, vectors = np.linalg.eigh((some.T @ some).astype(np.float64))
    basis = np.ascontiguousarray(vectors[:, ::-1][:, :COMPONENTS]).astype(np.float32)
    energy = ((blocks @ basis) ** 2).reshape(count, rows * columns, COMPONENTS).mean(axis=0)
    overall = energy.mean(axis=0)
    smoothed = (count * energy + 40 * overall) / (count + 40)
    classes = class_of(np.sqrt(smoothed.T.astype(np.float64)) / COARSEST_STEP, LEAST_RATIO)
    return Components(basis, classes)


def fit_weights(tables: CodeTables, components: Floats) -> CodeTables:
    """The tables with the weights that foretell magnitudes best, never negative, in the least-squares sense.

    Args:
        components: (N, K, B).
    """
    layer = ResidualLayer(tables)
    count = components.shape[1]
    sums, products, rows = np.zeros(4 * count), np.zeros((4 * count, 4 * count)), 0
    for step in TRIED_STEPS:
        scaled = np.abs(components) / layer.width(step) + DEAD_ZONE
        magnitudes = np.floor(np.minimum(scaled, CUTS)) * layer.coded(step)
        for own in magnitudes.astype(np.float32):
            beside, diagonal = layer.before(own)
            features = np.concatenate([own, layer.around(own), beside, diagonal])
            sums += features.sum(axis=1)
            products += features @ features.T
            rows += features.shape[1]
    covariance = products - np.outer(sums, sums) / rows
    own_weights, near_weights = np.zeros((2, count, count), np.int64)
    same_weights = np.zeros((count, 2), np.int64)
    for k in range(count):
        used = np.r_[0:k, count : count + k, 2 * count + k, 3 * count + k]
        weights = _non_negative(covariance[np.ix_(used, used)], covariance[used, k])
        whole = np.clip(np.rint(UNIT * weights), 0, 127).astype(np.int64)
        own_weights[:k, k], near_weights[:k, k], same_weights[k] = whole[:k], whole[k : 2 * k], whole[-2:]
    return replace(tables, own_weights=own_weights, near_weights=near_weights, same_weights=same_weights)


def _non_negative(products: Doubles, targets: Doubles) -> Doubles:
    """Least squares in which what would be negative is left out, again and again."""
    weights = np.zeros(len(targets))
    kept = np.arange(len(targets))
    while len(kept):
        square = products[np.ix_(kept, kept)] + RIDGE * np.eye(len(kept))
        found = np.linalg.solve(square, targets[kept])
        if (found >= 0).all():
            weights[kept] = found
            break
        kept = kept[found > 0]
    return weights


def fit_frequencies(tables: CodeTables, components: Floats) -> CodeTables:
    """The tables with the frequencies and centroids of magnitudes as the layer chooses them.

    Args:
        components: (N, K, B).
    """
    layer = ResidualLayer(tables)
    shape = len(tables.residual_frequencies[0]), len(LEVELS) + 1
    places = shape[0] * shape[1]
    counts = np.zeros((CUTS + 1, places))
    totals, seen = np.zeros((CUTS + 1, shape[0])), np.zeros((CUTS + 1, shape[0]))
    beyond = stops = 0.0
    for step in TRIED_STEPS:
        coded, classes = layer.coded(step), layer.classes(step)
        for one in components:
            values = np.abs(layer.quantise(one, step)[0].values)
            place = (classes * shape[1] + layer.levels(values))[coded]
            magnitudes, scaled = values[coded], np.abs(one[coded]) / layer.width(step)
            for cut in range(CUTS + 1):
                counts[cut] += np.bincount(place[magnitudes >= cut], minlength=places)
                exactly = magnitudes == cut if cut < CUTS else magnitudes >= cut
                seen[cut] += np.bincount(classes[coded][exactly], minlength=shape[0])
                over = scaled[exactly] - np.maximum(magnitudes[exactly] - CUTS, 0)
                totals[cut] += np.bincount(classes[coded][exactly], over, minlength=shape[0])
            beyond += float(np.maximum(magnitudes - CUTS, 0).sum())
            stops += float((magnitudes >= CUTS).sum())
    frequencies = np.stack([_stops(counts[cut], counts[cut + 1], shape) for cut in range(CUTS)])
    pooled = totals.sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
    own = np.where(seen > 30, totals / np.maximum(seen, 1), pooled[:, None])
    own = np.clip(own, np.arange(CUTS + 1)[:, None] - 0.45, np.arange(CUTS + 1)[:, None] + 0.5)
    own[0] = 0
    tail = int(np.clip(TOTAL * (stops + 1) / (stops + beyond + 2), TOTAL // 8, TOTAL - TOTAL // 8))
    return replace(
        tables,
        residual_frequencies=frequencies,
        tail_frequency=np.array([tail]),
        residual_centroids=own.T.astype(np.float32),
    )


def _stops(reached: Doubles, passed: Doubles, shape: tuple[int, int]) -> Integers:
    """Frequencies (classes, levels) of those that stop at a cut, each level leaning on its class."""
    reached, passed = reached.reshape(shape), passed.reshape(shape)
    everywhere = (passed.sum() + 0.5) / (reached.sum() + 1)
    by_class = (passed.sum(axis=1) + 20 * everywhere) / (reached.sum(axis=1) + 20)
    chance = (passed + PRIOR_COUNT * by_class[:, None]) / (reached + PRIOR_COUNT)
    stops: Integers = np.clip(np.rint(TOTAL * (1 - chance)), 1, TOTAL - 1).astype(np.int64)
    return stops
