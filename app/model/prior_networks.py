"""Generators of the prior: two networks in NumPy that turn noise into whitened latents, in one pass each."""

from collections.abc import Mapping

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import ArrayLike

from app.model.latents import Doubles

COARSE_LAYERS = ("entry", "entry_bias", "hidden", "hidden_bias", "exit", "exit_bias")

FINE_BLOCK_LAYERS = ("first", "first_bias", "second", "second_bias")
FINE_LAYERS = ("picture", "entry", "entry_bias", *FINE_BLOCK_LAYERS, "exit", "back", "keep")
KERNEL = 3

ROWS_AT_ONCE = 4
"""Rows in every product of rows and a matrix, some of them empty: BLAS adds up in another order for another
number of rows, and what becomes of one must not depend on the others."""


class CoarseGenerator:
    """A residual network that carries draws of N(0, I) to where whitened latents of images lie.

    It does in one pass what the flow matching model that it was distilled from does in many steps. It is of
    the leading K coordinates.
    """

    def __init__(self, arrays: Mapping[str, ArrayLike]) -> None:
        """Make the network.

        Args:
            arrays: entry (H, K) and entry_bias (H,); hidden (D, H, H) and hidden_bias (D, H); exit (K, H) and
                exit_bias (K,).

        Raises:
            ValueError: the arrays do not describe such a network.
        """
        layers = [np.array(arrays[name], dtype=np.float64) for name in COARSE_LAYERS]
        entry, entry_bias, hidden, hidden_bias, leave, leave_bias = layers
        if leave.ndim != 2 or hidden.ndim != 3:
            raise ValueError("the layers of the coarse generator are not matrices")
        dim, width = leave.shape
        depth = len(hidden)
        shapes = [(width, dim), (width,), (depth, width, width), (depth, width), (dim, width), (dim,)]
        if [layer.shape for layer in layers] != shapes:
            raise ValueError("the layers of the coarse generator do not match")
        if not all(np.isfinite(values).all() for values in layers):
            raise ValueError("not all numbers of the coarse generator are finite")
        self.dim = dim
        # Laid out as the products read them: twice as fast.
        self._entry, self._exit = entry.T.copy(), leave.T.copy()
        self._hidden = [(weight.T.copy(), bias) for weight, bias in zip(hidden, hidden_bias, strict=True)]
        self._entry_bias, self._exit_bias = entry_bias, leave_bias

    def __call__(self, points: Doubles) -> Doubles:
        """Move (N, K) points; what becomes of one does not depend on the others."""
        carried = np.empty_like(points)
        for start in range(0, len(points), ROWS_AT_ONCE):
            rows = points[start : start + ROWS_AT_ONCE]
            used = len(rows)
            block, state = np.zeros((ROWS_AT_ONCE, self.dim)), np.zeros((ROWS_AT_ONCE, len(self._entry_bias)))
            block[:used] = rows
            state[:used] = _silu((block @ self._entry)[:used] + self._entry_bias)
            for weight, bias in self._hidden:
                state[:used] += _silu((state @ weight)[:used] + bias)
            carried[start : start + ROWS_AT_ONCE] = rows + ((state @ self._exit)[:used] + self._exit_bias)
        return carried


class FineGenerator:
    """A convolutional network that makes the trailing coordinates of whitened latents fit the leading ones.

    Trailing coordinates say what is fine, and what fits depends on the coarse image around it. Both are
    shown to the network as small images, the trailing ones of noise; its residual blocks make detail of the
    noise, in one pass.
    """

    def __init__(self, arrays: Mapping[str, ArrayLike]) -> None:
        """Make the network.

        Args:
            arrays: picture (L, rows, columns, S), what each coordinate adds to a small image of S values
                a cell; entry (3, 3, 2S, C), a convolution of the images of leading and of trailing
                coordinates, and entry_bias (rows, columns, C); first and second (D, 3, 3, C, C) and their
                biases (D, C), of the residual blocks; exit (3, 3, C, S); back (rows, columns, S, T), which
                turns an image into T trailing coordinates, and keep (T,), how much of themselves is added.

        Raises:
            ValueError: the arrays do not describe such a network.
        """
        layers = {name: np.array(arrays[name], dtype=np.float64) for name in FINE_LAYERS}
        picture, bias, entry, first = (layers[name] for name in ("picture", "entry_bias", "entry", "first"))
        if picture.ndim != 4 or bias.ndim != 3 or first.ndim != 5:
            raise ValueError("the layers of the fine generator do not match")
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
            raise ValueError("the layers of the fine generator do not match")
        if not all(np.isfinite(layer).all() for layer in layers.values()):
            raise ValueError("not all numbers of the fine generator are finite")
        self.dim, self.leading = dim, dim - count
        self._grid, self._keep = (grid[0], grid[1]), layers["keep"]
        self._picture = picture.reshape(dim, -1)
        self._entry, self._entry_bias = entry.reshape(-1, channels), bias.reshape(-1, channels)
        blocks = zip(*(layers[name] for name in FINE_BLOCK_LAYERS), strict=True)
        self._blocks = [
            (first.reshape(-1, channels), first_bias, second.reshape(-1, channels), second_bias)
            for first, first_bias, second, second_bias in blocks
        ]
        self._exit = layers["exit"].reshape(-1, values)
        self._back = layers["back"].reshape(-1, count)

    def __call__(self, points: Doubles) -> Doubles:
        """(N, L) points with other trailing coordinates; each becomes what it becomes without the others."""
        completed = points.copy()
        for start in range(0, len(points), ROWS_AT_ONCE):
            rows = completed[start : start + ROWS_AT_ONCE]
            block = np.zeros((ROWS_AT_ONCE, self.dim))
            block[: len(rows)] = rows
            leading, trailing = block[:, : self.leading], block[:, self.leading :]
            images = leading @ self._picture[: self.leading], trailing @ self._picture[self.leading :]
            drawn = np.zeros_like(images[0])
            for number in range(len(rows)):
                shown = [part[number].reshape(*self._grid, -1) for part in images]
                drawn[number] = self._draw(np.concatenate(shown, axis=2)).ravel()
            fitting = drawn @ self._back + self._keep * trailing
            rows[:, self.leading :] = fitting[: len(rows)]
        return completed

    def _draw(self, shown: Doubles) -> Doubles:
        """Both images (rows, columns, 2S) of one latent -> that of its trailing coordinates (cells, S)."""
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
