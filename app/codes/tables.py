"""Tables of a model's codes: everything fitted that writing and reading them takes, as one file."""

import dataclasses
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.codes.range_coder import TOTAL

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

BLOCK = 8
"""Pixels on a side of the blocks of the second layer."""
VALUES = 3 * BLOCK * BLOCK
OCTAVE = 16
"""Steps are powers of 2**(1 / OCTAVE)."""
CUTS = 3
"""Decisions on a magnitude that have frequencies of their own: more than 0, than 1, than 2."""


@dataclass(frozen=True)
class CodeTables:
    """What a model's codes are written and read by. Integers decide bytes and symbols, floats pictures.

    L numbers in a latent; S settings; classes of spread, each an OCTAVEth of an octave wide; K components and
    B blocks of an image, row by row.
    """

    size: Integers
    """(2,) width and height of the model's images."""
    shape_frequencies: Integers
    """(width + height - 1,) of the shapes of originals; see `app.codes.shape`."""
    settings: Integers
    """(S, 2) from coarse to fine: steps of latent and residual, in OCTAVEths; -1 is no residual."""
    setting_bytes: Floats
    """(S,) of a typical code; a hint where to begin to search."""
    latent_mean: Floats
    """(L,)."""
    latent_forward: Floats
    """(L, L): (latent - mean) @ forward are coefficients, the most varied first."""
    latent_inverse: Floats
    """(L, L)."""
    latent_step: Floats
    """(1,) the coarsest step."""
    latent_classes: Integers
    """(L,) class of each coefficient at the coarsest step; below 0 it is not coded."""
    latent_frequencies: Integers
    """(classes, 2 R + 1) of the values from -R to R; each row sums to TOTAL."""
    latent_centroids: Floats
    """(classes, R + 1) in steps: what a magnitude stands for."""
    basis: Floats
    """(VALUES, K) orthonormal: blocks of 8 x 8 x 3 -> components."""
    residual_step: Floats
    """(1,) the coarsest step, in grey levels."""
    residual_classes: Integers
    """(K, B) class of each component in each block at the coarsest step; below 0 it is not coded."""
    own_weights: Integers
    """(K, K): row j says what a magnitude of component j says of the later ones in its block."""
    near_weights: Integers
    """(K, K): the same in the eight blocks around it."""
    same_weights: Integers
    """(K, 2): what it says of the same component in the next block of its row or column, and diagonally."""
    levels: Integers
    """(reach + 1,) level of a sum of weights."""
    residual_frequencies: Integers
    """(CUTS, classes, levels) of "no more"."""
    tail_frequency: Integers
    """(1,) of "no more" beyond CUTS."""
    residual_centroids: Floats
    """(classes, CUTS + 1) in steps."""

    def save(self) -> bytes:
        """The file that `read` reads: the same tables give the same bytes."""
        file = io.BytesIO()
        arrays: dict[str, Any] = {name: _packed(array) for name, array in vars(self).items()}
        np.savez_compressed(file, **arrays)
        return file.getvalue()

    @staticmethod
    def read(content: bytes) -> "CodeTables":
        """What `save` wrote.

        Raises:
            ValueError: something else did, or it is damaged.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                fields = dataclasses.fields(CodeTables)
                tables = CodeTables(**{field.name: _unpacked(arrays[field.name]) for field in fields})
                tables._check()
        except Exception as error:  # a damaged archive raises almost anything
            raise ValueError(f"these are no tables of codes ({error})") from error
        return tables

    def _check(self) -> None:
        width, height = self.size.tolist()
        dimensions, components = len(self.latent_mean), self.basis.shape[1]
        blocks = (width // BLOCK) * (height // BLOCK)
        shapes: dict[str, tuple[int, ...]] = {
            "shape_frequencies": (width + height - 1,),
            "latent_forward": (dimensions, dimensions),
            "latent_inverse": (dimensions, dimensions),
            "latent_classes": (dimensions,),
            "residual_classes": (components, blocks),
            "own_weights": (components, components),
            "near_weights": (components, components),
            "same_weights": (components, 2),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} has the shape {getattr(self, name).shape}, not {shape}")
        rows = [self.shape_frequencies[None], self.latent_frequencies]
        if any((row.sum(axis=1) != TOTAL).any() or (row < 1).any() for row in rows):
            raise ValueError("frequencies do not sum to their total")
        for chances in (self.residual_frequencies, self.tail_frequency):
            if (chances < 1).any() or (chances >= TOTAL).any():
                raise ValueError("a frequency is out of range")


def _packed(array: NDArray[Any]) -> NDArray[Any]:
    """Integers in the fewest bytes."""
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    for dtype in (np.int8, np.uint8, np.int16, np.uint16):
        if (array == array.astype(dtype)).all():
            return array.astype(dtype)
    return array.astype(np.int32)


def _unpacked(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
