"""Seeded draws and paths in the latent space, in pure NumPy.

The same seed gives the same latents on every machine and with every version of NumPy: the counter-based
generator Philox is fixed by its definition (Salmon et al. 2011), and RandomState's way from its bits to
normal deviates is frozen (NEP 19). Everything is computed in float64 and rounded to float32 at the end, which
hides the last bits, in which mathematical libraries differ.
"""

import io
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import ArrayLike, NDArray

from app.errors import ModelFolderError

Latents = NDArray[np.float32]
Doubles = NDArray[np.float64]
Method = Literal["linear", "spherical"]

MAX_SEED = 2**53 - 1
"""The largest seed: beyond it JavaScript and other readers of JSON lose integers."""

NORMAL_STREAM, COMPONENT_STREAM = 0, 1

FLOW_LAYERS = ("entry", "entry_bias", "hidden", "hidden_bias", "exit", "exit_bias")

DETAIL_BLOCK_LAYERS = ("first", "first_bias", "second", "second_bias")
DETAIL_LAYERS = ("picture", "entry", "entry_bias", *DETAIL_BLOCK_LAYERS, "exit", "back", "keep")
KERNEL = 3

BLOCK = 4
"""Rows in every product of rows and a matrix, some of them empty: BLAS adds up in another order for another
number of rows, and what becomes of one must not depend on the others."""

SNAP = 1e-9
"""A frame closer than this to a waypoint, in steps between waypoints, is that waypoint."""

PARALLEL = 1e-6
"""Sine of the angle below which two directions have no well-defined arc between them."""


def new_seed() -> int:
    """A fresh seed below 2**32, short enough to be typed."""
    return secrets.randbits(32)


def standard_draws(count: int, dim: int, seed: int, temperature: float = 1.0) -> Latents:
    """Draw (count, dim) latents from N(0, temperature**2); the first rows do not depend on `count`."""
    return _to_latents(temperature * _normal(count, dim, seed))


def posterior_draws(mean: Latents, std: Latents, seed: int) -> Latents:
    """Draw one latent from N(mean, std**2) for each row of (N, L) `mean` and `std`."""
    count, dim = mean.shape
    return _to_latents(mean + std * _normal(count, dim, seed))


def _normal(count: int, dim: int, seed: int) -> Doubles:
    return _random(seed, NORMAL_STREAM).standard_normal((count, dim))


def _random(seed: int, stream: int) -> np.random.RandomState:
    """A generator of its own for each stream and seed in 0..MAX_SEED: they are the halves of Philox's key."""
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"a seed must be between 0 and {MAX_SEED}")
    return np.random.RandomState(np.random.Philox(key=seed + (stream << 64)))


def _to_latents(values: Doubles) -> Latents:
    """Round to float32; what is beyond its range becomes its largest number instead of infinity."""
    limit = np.finfo(np.float32).max
    return np.clip(values, -limit, limit).astype(np.float32)


class Flow:
    """A residual network that carries draws of N(0, I) to where whitened latents of pictures lie.

    It does in one pass what the flow that it learnt from does in many steps. It moves the leading K
    coordinates and leaves the others.
    """

    def __init__(self, arrays: Mapping[str, ArrayLike]) -> None:
        """Make the network.

        Args:
            arrays: entry (H, K) and entry_bias (H,); hidden (D, H, H) and hidden_bias (D, H); exit (K, H) and
                exit_bias (K,).

        Raises:
            ValueError: the arrays do not describe such a network.
        """
        layers = [np.array(arrays[name], dtype=np.float64) for name in FLOW_LAYERS]
        entry, entry_bias, hidden, hidden_bias, leave, leave_bias = layers
        if leave.ndim != 2 or hidden.ndim != 3:
            raise ValueError("the layers of the flow are not matrices")
        dim, width = leave.shape
        depth = len(hidden)
        shapes = [(width, dim), (width,), (depth, width, width), (depth, width), (dim, width), (dim,)]
        if [layer.shape for layer in layers] != shapes:
            raise ValueError("the layers of the flow do not match")
        if not all(np.isfinite(values).all() for values in layers):
            raise ValueError("not all numbers of the flow are finite")
        self.dim = dim
        # Laid out as the products read them: twice as fast.
        self._entry, self._exit = entry.T.copy(), leave.T.copy()
        self._hidden = [(weight.T.copy(), bias) for weight, bias in zip(hidden, hidden_bias, strict=True)]
        self._entry_bias, self._exit_bias = entry_bias, leave_bias

    def carry(self, points: Doubles) -> Doubles:
        """Move (N, K) points; what becomes of one does not depend on the others."""
        carried = np.empty_like(points)
        for start in range(0, len(points), BLOCK):
            rows = points[start : start + BLOCK]
            used = len(rows)
            block, state = np.zeros((BLOCK, self.dim)), np.zeros((BLOCK, len(self._entry_bias)))
            block[:used] = rows
            state[:used] = _silu((block @ self._entry)[:used] + self._entry_bias)
            for weight, bias in self._hidden:
                state[:used] += _silu((state @ weight)[:used] + bias)
            carried[start : start + BLOCK] = rows + ((state @ self._exit)[:used] + self._exit_bias)
        return carried


class Details:
    """Convolutions that make the trailing coordinates of whitened latents agree with the leading ones.

    Trailing coordinates say what is fine, and what fits depends on the coarse picture around it. Both are
    shown to the network as small pictures, the trailing ones of noise; its residual blocks make detail of the
    noise, in one pass.
    """

    def __init__(self, arrays: Mapping[str, ArrayLike]) -> None:
        """Make the network.

        Args:
            arrays: picture (L, rows, columns, S), what each coordinate adds to a small picture of S values
                a cell; entry (3, 3, 2S, C), a convolution of the pictures of leading and of trailing
                coordinates, and entry_bias (rows, columns, C); first and second (D, 3, 3, C, C) and their
                biases (D, C), of the residual blocks; exit (3, 3, C, S); back (rows, columns, S, T), which
                turns a picture into T trailing coordinates, and keep (T,), how much of themselves is added.

        Raises:
            ValueError: the arrays do not describe such a network.
        """
        layers = {name: np.array(arrays[name], dtype=np.float64) for name in DETAIL_LAYERS}
        picture, bias, entry, first = (layers[name] for name in ("picture", "entry_bias", "entry", "first"))
        if picture.ndim != 4 or bias.ndim != 3 or first.ndim != 5:
            raise ValueError("the layers of the details do not match")
        dim, *grid, values = picture.shape
        channels, depth, count = bias.shape[2], len(first), layers["keep"].size
        kernel = (KERNEL, KERNEL)
        shapes = {
            "picture": (dim, *grid, values),
            "entry": (*kernel, 2 * values, channels),
            "entry_bias": (*grid, channels),
            "first": (depth, *kernel, channels, channels),
            "first_bias": (depth, channels),
            "second": (depth, *kernel, channels, channels),
            "second_bias": (depth, channels),
            "exit": (*kernel, channels, values),
            "back": (*grid, values, count),
            "keep": (count,),
        }
        if {name: layer.shape for name, layer in layers.items()} != shapes or not 0 < count < dim:
            raise ValueError("the layers of the details do not match")
        if not all(np.isfinite(layer).all() for layer in layers.values()):
            raise ValueError("not all numbers of the details are finite")
        self.dim, self.leading = dim, dim - count
        self._grid, self._keep = (grid[0], grid[1]), layers["keep"]
        self._picture = picture.reshape(dim, -1)
        self._entry, self._entry_bias = entry.reshape(-1, channels), bias.reshape(-1, channels)
        blocks = zip(*(layers[name] for name in DETAIL_BLOCK_LAYERS), strict=True)
        self._blocks = [
            (first.reshape(-1, channels), first_bias, second.reshape(-1, channels), second_bias)
            for first, first_bias, second, second_bias in blocks
        ]
        self._exit = layers["exit"].reshape(-1, values)
        self._back = layers["back"].reshape(-1, count)

    def complete(self, points: Doubles) -> Doubles:
        """(N, L) points with other trailing coordinates; each becomes what it becomes without the others."""
        completed = points.copy()
        for start in range(0, len(points), BLOCK):
            rows = completed[start : start + BLOCK]
            block = np.zeros((BLOCK, self.dim))
            block[: len(rows)] = rows
            leading, trailing = block[:, : self.leading], block[:, self.leading :]
            pictures = leading @ self._picture[: self.leading], trailing @ self._picture[self.leading :]
            drawn = np.zeros_like(pictures[0])
            for number in range(len(rows)):
                shown = [part[number].reshape(*self._grid, -1) for part in pictures]
                drawn[number] = self._draw(np.concatenate(shown, axis=2)).ravel()
            fitting = drawn @ self._back + self._keep * trailing
            rows[:, self.leading :] = fitting[: len(rows)]
        return completed

    def _draw(self, shown: Doubles) -> Doubles:
        """Both pictures (rows, columns, 2S) of one latent -> that of its trailing coordinates (cells, S)."""
        state = self._neighbourhoods(shown) @ self._entry + self._entry_bias
        for first, first_bias, second, second_bias in self._blocks:
            inner = self._neighbourhoods(np.maximum(state, 0)) @ first + first_bias
            state += self._neighbourhoods(np.maximum(inner, 0)) @ second + second_bias
        drawn: Doubles = self._neighbourhoods(np.maximum(state, 0)) @ self._exit
        return drawn

    def _neighbourhoods(self, values: Doubles) -> Doubles:
        """(cells, 9 V): the values of each cell and its neighbours, zero outside."""
        rows, columns = self._grid
        cells = values.reshape(rows, columns, -1)
        around = np.zeros((rows + KERNEL - 1, columns + KERNEL - 1, cells.shape[2]))
        around[1:-1, 1:-1] = cells
        below, right, value = around.strides
        shape = (rows, columns, KERNEL, KERNEL * cells.shape[2])  # the cells of a row lie side by side
        found = as_strided(around, shape, (below, right, below, value))
        return found.reshape(rows * columns, -1)


def _silu(values: Doubles) -> Doubles:
    activated: Doubles = values / (1 + np.exp(np.minimum(-values, 500)))
    return activated


class Prior:
    """A mixture of K Gaussians with full covariances, fitted on the encoded training set; or one Gaussian,
    whose draws a flow then carries to where the set lies, and a network of details completes."""

    def __init__(
        self,
        weights: ArrayLike,
        means: ArrayLike,
        cholesky: ArrayLike,
        flow: Flow | None = None,
        details: Details | None = None,
    ) -> None:
        """Make a mixture.

        Args:
            weights: (K,) positive numbers; they are scaled to the sum 1.
            means: (K, L).
            cholesky: (K, L, L) lower triangular factors of the covariances, with positive diagonals.
            flow: of at most L coordinates, with K = 1.
            details: of L coordinates, of which the flow's are the leading ones.

        Raises:
            ValueError: the arrays do not describe such a mixture.
        """
        self.flow, self.details = flow, details
        self.weights, self.means, self.cholesky = (
            np.array(values, dtype=np.float64) for values in (weights, means, cholesky)
        )
        _check_mixture(self.weights, self.means, self.cholesky)
        if flow is not None and (len(self.weights) != 1 or flow.dim > self.means.shape[1]):
            raise ValueError("a flow needs one Gaussian, of no fewer dimensions")
        if details is not None and (
            flow is None or (details.leading, details.dim) != (flow.dim, self.means.shape[1])
        ):
            raise ValueError("details need a flow of the leading coordinates, and a Gaussian of all")
        self.weights /= self.weights.sum()
        self._mean: Doubles = self.weights @ self.means
        self._factor: Doubles = np.asarray(np.linalg.cholesky(self._total_covariance()), dtype=np.float64)
        self._inverse: Doubles = np.asarray(np.linalg.inv(self._factor), dtype=np.float64)

    def _total_covariance(self) -> Doubles:
        """(L, L), by the law of total covariance: within the components plus between their means."""
        offsets = self.means - self._mean
        between = (self.weights[:, None] * offsets).T @ offsets
        within = [
            weight * factor @ factor.T for weight, factor in zip(self.weights, self.cholesky, strict=True)
        ]
        total: Doubles = np.sum(within, axis=0) + between
        return total

    def draw(self, count: int, seed: int, temperature: float = 1.0) -> Latents:
        """Draw (count, L) latents; the first rows do not depend on `count`.

        `temperature` scales the deviation from the mean of the component that was drawn; 0 gives those means.
        With a flow it scales what the flow and the details start from.
        """
        if self.flow is not None:
            points = temperature * _normal(count, self.means.shape[1], seed)
            points[:, : self.flow.dim] = self.flow.carry(points[:, : self.flow.dim])
            if self.details is not None:
                points = self.details.complete(points)
            for row in points:
                row[:] = self._mean + self._factor @ row
            return _to_latents(points)
        uniform = _random(seed, COMPONENT_STREAM).random_sample(count)
        # Without the last bound: what lies above the others is the last component's, whatever the rounding.
        components = np.searchsorted(np.cumsum(self.weights)[:-1], uniform, side="right")
        draws = _normal(count, self.means.shape[1], seed)
        # One product per row, and einsum instead of BLAS: the order of a sum must not depend on the count.
        for row, component in zip(draws, components, strict=True):
            deviation = np.einsum("ij,j->i", self.cholesky[component], row)
            row[:] = self.means[component] + temperature * deviation
        return _to_latents(draws)

    def principal_directions(self, count: int) -> tuple[Doubles, Doubles]:
        """Unit vectors (count, L) along which the mixture varies most, and its standard deviations there.

        They are the leading eigenvectors of the total covariance, at most L of them, each with the sign that
        makes its largest element positive.
        """
        variances, vectors = np.linalg.eigh(self._total_covariance())
        leading = slice(None, -count - 1, -1)  # eigh sorts upwards
        directions = vectors.T[leading]
        largest = np.abs(directions).argmax(axis=1, keepdims=True)
        directions = directions * np.sign(np.take_along_axis(directions, largest, axis=1))
        return directions, np.sqrt(variances[leading])

    def whiten(self, latents: NDArray[Any]) -> Doubles:
        """(N, L) latents in the coordinates in which the mixture has mean 0 and covariance 1."""
        whitened: Doubles = (latents - self._mean) @ self._inverse.T
        return whitened

    def unwhiten(self, whitened: Doubles) -> Doubles:
        """The inverse of `whiten`."""
        latents: Doubles = whitened @ self._factor.T + self._mean
        return latents


def _check_mixture(weights: Doubles, means: Doubles, cholesky: Doubles) -> None:
    if means.ndim != 2 or 0 in means.shape:
        raise ValueError(f"means must be of shape (K, L), not {means.shape}")
    count, dim = means.shape
    if weights.shape != (count,) or cholesky.shape != (count, dim, dim):
        raise ValueError(
            f"weights {weights.shape}, means {means.shape} and cholesky {cholesky.shape} do not match"
        )
    if not all(np.isfinite(values).all() for values in (weights, means, cholesky)):
        raise ValueError("not all numbers are finite")
    if (weights <= 0).any():
        raise ValueError("not all weights are positive")
    if np.triu(cholesky, 1).any() or (np.diagonal(cholesky, axis1=1, axis2=2) <= 0).any():
        raise ValueError("the factors are not lower triangular with positive diagonals")


def read_prior(content: bytes, latent_dim: int) -> Prior:
    """Read a prior.npz with the arrays `weights`, `means` and `cholesky` of Prior and, where it has them,
    those of its flow, called `flow_entry` and so on, and of its details, `details_entry` and so on.

    Raises:
        ModelFolderError: it is not such a file, or is of another latent size.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            flow = details = None
            if "flow_entry" in arrays:
                flow = Flow({name: arrays[f"flow_{name}"] for name in FLOW_LAYERS})
            if "details_entry" in arrays:
                details = Details({name: arrays[f"details_{name}"] for name in DETAIL_LAYERS})
            prior = Prior(arrays["weights"], arrays["means"], arrays["cholesky"], flow, details)
    except Exception as error:  # a damaged archive raises almost anything
        raise ModelFolderError(f"the prior cannot be used ({error}); export the model again") from error
    if prior.means.shape[1] != latent_dim:
        raise ModelFolderError(
            f"the prior has latents of {prior.means.shape[1]} numbers and the model of {latent_dim};"
            " export the model again"
        )
    return prior


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
        frames = _to_latents(_lerp(points[begins], points[begins + 1], fractions))
    else:
        points = waypoints.astype(np.float64) if prior is None else prior.whiten(waypoints)
        arcs = _slerp(points[begins], points[begins + 1], fractions)
        frames = _to_latents(arcs if prior is None else prior.unwhiten(arcs))
    on_waypoint = np.abs(positions - nearest) <= SNAP
    frames[on_waypoint] = waypoints[nearest[on_waypoint]]
    return frames


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
