"""Layout of the map: drawn cars in a grid, each beside others that look like it."""

import numpy as np
from numpy.typing import NDArray

from app.model.atlas import Direction, Likeness
from app.model.latents import Latents
from app.model.prior import Prior
from model_training.atlas.attributes import ATTRIBUTES

ROWS, COLUMNS = 20, 25
SWEEPS = 3000
REACHES = (6, 3, 2, 1)
"""Cells within which others count as near, in one go after another: first the whole falls into place."""


def fit_map(
    prior: Prior,
    directions: tuple[Direction, ...],
    likeness: Likeness | None,
    shape: tuple[int, int] = (ROWS, COLUMNS),
    sweeps: int = SWEEPS,
) -> NDArray[np.int64]:
    """(rows, columns) seeds, the first ones whose cars look like cars, laid out by how far their latents lie
    along the directions."""
    seeds, latents = _drawn(prior, likeness, shape[0] * shape[1])
    ends = np.array([one.vector * one.std for one in directions])
    origin = prior.whiten(np.zeros_like(ends))
    axes = prior.whiten(ends) - origin
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    known = {(one.name, one.low, one.high): one.weight for one in ATTRIBUTES.values()}
    weights = np.array([known[one.name or "", one.low or "", one.high or ""] for one in directions])
    return seeds[arrange(prior.whiten(latents) @ axes.T * weights, shape, sweeps)]


def _drawn(prior: Prior, likeness: Likeness | None, count: int) -> tuple[NDArray[np.int64], Latents]:
    seeds = np.arange(2 * count)
    latents = np.concatenate([prior.draw(1, int(seed)) for seed in seeds])
    is_car = np.ones(len(seeds), bool) if likeness is None else likeness(latents) >= 0.5
    chosen = np.concatenate([seeds[is_car], seeds[~is_car]])[:count]
    return chosen, latents[chosen]


def arrange(points: NDArray[np.float64], shape: tuple[int, int], sweeps: int) -> NDArray[np.int64]:
    """(rows, columns) indices of points (rows * columns, D), so that near cells have near points.

    From the order of the two leading coordinates, pairs change places wherever that brings both nearer to
    what is around them.
    """
    rows, columns = shape
    centred = points - points.mean(axis=0)
    grid = np.empty(shape, np.int64)
    for column, members in enumerate(np.argsort(centred[:, 0], kind="stable").reshape(columns, rows)):
        grid[:, column] = members[np.argsort(centred[members, 1], kind="stable")]
    random = np.random.default_rng(0)
    for reach in REACHES:
        for _ in range(max(1, sweeps // len(REACHES))):
            wanted = _around(centred[grid], reach)
            _exchange(grid, centred, wanted, random)
    return grid


def _around(cells: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """The mean of the cells at most `reach` away from each, fewer at the edges; itself left out."""
    rows, columns, _ = cells.shape
    summed = np.zeros_like(cells)
    counted = np.zeros((rows, columns, 1))
    for down in range(-reach, reach + 1):
        for across in range(-reach, reach + 1):
            if (down, across) == (0, 0) or abs(down) >= rows or abs(across) >= columns:
                continue
            to = slice(max(0, down), rows + min(0, down)), slice(max(0, across), columns + min(0, across))
            of = slice(max(0, -down), rows - max(0, down)), slice(max(0, -across), columns - max(0, across))
            summed[to] += cells[of]
            counted[to] += 1
    mean: NDArray[np.float64] = summed / np.maximum(counted, 1)
    return mean


def _exchange(
    grid: NDArray[np.int64],
    points: NDArray[np.float64],
    wanted: NDArray[np.float64],
    random: np.random.Generator,
) -> None:
    """Pair all cells at random; those pairs change places that fit better so."""
    order = random.permutation(grid.size)
    half = len(order) // 2
    first, second = order[:half], order[half : 2 * half]
    flat, target = grid.reshape(-1), wanted.reshape(grid.size, -1)

    def missed(cells: NDArray[np.int64], members: NDArray[np.int64]) -> NDArray[np.float64]:
        distances: NDArray[np.float64] = ((target[cells] - points[members]) ** 2).sum(axis=1)
        return distances

    own, other = flat[first].copy(), flat[second].copy()
    better = missed(first, other) + missed(second, own) < missed(first, own) + missed(second, other)
    flat[first[better]], flat[second[better]] = other[better], own[better]
