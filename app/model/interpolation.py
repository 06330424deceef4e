"""Interpolation: linear and spherical paths through the latent space."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from app.model.latents import Doubles, Latents, to_latents
from app.model.prior import Prior

Method = Literal["linear", "spherical"]

SNAP = 1e-9
"""A frame closer than this to a waypoint, in steps between waypoints, is that waypoint."""

PARALLEL = 1e-6
"""Sine of the angle below which two directions have no well-defined arc between them."""


def even_lambdas(steps: int) -> list[float]:
    """`steps` (2 or more) equally spaced positions from 0 to 1, both included."""
    positions: list[float] = np.linspace(0.0, 1.0, steps).tolist()
    return positions


def interpolate(waypoints: Latents, lambdas: Sequence[float], method: Method, prior: Prior | None) -> Latents:
    """Points on the path through the waypoints.

    Args:
        waypoints: (W, L), W >= 2; they lie at equal distances along the path.
        lambdas: positions in 0..1 along the whole path; those on a waypoint give it unchanged, bit by bit.
        method: `linear`, or `spherical` (Shoemake 1985): along the arc between two directions, with the
            length changing linearly, around the mean of the prior and in the coordinates it whitens; without
            a prior, around the origin. Two points that have no arc, one being zero or both parallel or
            opposite, are joined by a straight line.

    Returns:
        (len(lambdas), L) float32, finite.
    """
    positions = np.asarray(lambdas, dtype=np.float64) * (len(waypoints) - 1)
    nearest = np.rint(positions).astype(np.intp)
    begins = np.minimum(np.floor(positions).astype(np.intp), len(waypoints) - 2)
    fractions = (positions - begins)[:, None]
    if method == "linear":
        points = waypoints.astype(np.float64)
        frames = to_latents(_lerp(points[begins], points[begins + 1], fractions))
    else:
        points = waypoints.astype(np.float64) if prior is None else prior.whiten(waypoints)
        arcs = _slerp(points[begins], points[begins + 1], fractions)
        frames = to_latents(arcs if prior is None else prior.unwhiten(arcs))
    on_waypoint = np.abs(positions - nearest) <= SNAP
    frames[on_waypoint] = waypoints[nearest[on_waypoint]]
    return frames


class Fade(NamedTuple):
    """What is seen of a waypoint beside its latent, in a frame of a path."""

    waypoint: int
    weight: float
    """1 on the waypoint, 0 from the middle of the way to the next one on."""


def fades(waypoints: int, lambdas: Sequence[float]) -> list[Fade]:
    """The waypoint that each frame is nearest to, and how near."""
    positions = [place * (waypoints - 1) for place in lambdas]
    nearest = [round(position) for position in positions]
    away = [abs(position - index) for position, index in zip(positions, nearest, strict=True)]
    return [
        Fade(index, 1.0 if distance <= SNAP else 1 - 2 * min(distance, 0.5))
        for index, distance in zip(nearest, away, strict=True)
    ]


def _lerp(begins: Doubles, ends: Doubles, fractions: Doubles) -> Doubles:
    return (1 - fractions) * begins + fractions * ends


def _slerp(begins: Doubles, ends: Doubles, fractions: Doubles) -> Doubles:
    begin_norms, end_norms = (np.linalg.norm(points, axis=1, keepdims=True) for points in (begins, ends))
    begin_units = begins / np.maximum(begin_norms, np.finfo(np.float64).tiny)
    end_units = ends / np.maximum(end_norms, np.finfo(np.float64).tiny)
    chord = np.linalg.norm(end_units - begin_units, axis=1, keepdims=True)
    opposite_chord = np.linalg.norm(end_units + begin_units, axis=1, keepdims=True)
    angles = 2 * np.arctan2(chord, opposite_chord)  # exact for small and for nearly straight angles
    sines = np.sin(angles)
    has_arc = (sines > PARALLEL) & (begin_norms > 0) & (end_norms > 0)
    safe_sines = np.where(has_arc, sines, 1.0)
    directions = (
        np.sin((1 - fractions) * angles) * begin_units + np.sin(fractions * angles) * end_units
    ) / safe_sines
    arcs = _lerp(begin_norms, end_norms, fractions) * directions
    return np.where(has_arc, arcs, _lerp(begins, ends, fractions))
