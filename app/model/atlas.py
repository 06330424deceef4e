"""Atlas of a model: named directions, what tells latents of cars from others, and a map of drawn cars."""

import io
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import ModelFolderError
from app.model.latents import MAX_SEED, Doubles, Latents
from app.model.manifest import ModelFolder
from app.model.prior_networks import ROWS_AT_ONCE


@dataclass(frozen=True, eq=False)
class Direction:
    """A way in which cars differ: a unit `vector` (L,) float32 and the standard deviation along it.

    Attributes:
        name, low, high: what it changes and what its two ends are called; None for a principal direction.
    """

    vector: Latents
    std: float
    name: str | None = None
    low: str | None = None
    high: str | None = None


class Likeness:
    """A small network that tells latents of images of cars from latents of anything else."""

    def __init__(self, layers: list[tuple[NDArray[Any], NDArray[Any]]]) -> None:
        """Make it of layers: a matrix (inputs, outputs) and a bias (outputs,) each; the last has one output.

        Raises:
            ValueError: the layers do not fit together.
        """
        for weight, bias in layers:
            if weight.ndim != 2 or bias.shape != weight.shape[1:]:
                raise ValueError("a layer of the likeness is not a matrix and a bias")
            if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
                raise ValueError("not all numbers of the likeness are finite")
        widths = [weight.shape for weight, _ in layers]
        if not layers or widths[-1][1] != 1:
            raise ValueError("the likeness has no single output")
        if any(before[1] != after[0] for before, after in itertools.pairwise(widths)):
            raise ValueError("the layers of the likeness do not match")
        self.layers = [(weight.astype(np.float64), bias.astype(np.float64)) for weight, bias in layers]

    @property
    def latent_dim(self) -> int:
        """L, the numbers of a latent."""
        return len(self.layers[0][0])

    def __call__(self, latents: Latents) -> Doubles:
        """(N,): from 0 to 1 for latents (N, L) as the encoder gives them; from 0.5 on it is a car."""
        said = np.empty(len(latents))
        for start in range(0, len(latents), ROWS_AT_ONCE):
            rows = latents[start : start + ROWS_AT_ONCE]
            state = np.zeros((ROWS_AT_ONCE, self.latent_dim))
            state[: len(rows)] = rows
            for weight, bias in self.layers[:-1]:
                state = state @ weight + bias
                state /= 1 + np.exp(-np.clip(state, -500, 500))  # SiLU
            weight, bias = self.layers[-1]
            said[start : start + ROWS_AT_ONCE] = (state @ weight + bias)[: len(rows), 0]
        likeness: Doubles = 1 / (1 + np.exp(-np.clip(said, -30, 30)))
        return likeness


@dataclass(frozen=True, eq=False)
class Atlas:
    """What is known of a model's latents beside their prior.

    Attributes:
        directions: the named ones, in the order in which they are to be shown.
        likeness: None where it was not fitted.
        map_seeds: (rows, columns) int64, seeds whose cars lie beside others like them; may be empty.
        sheet: the cars of the map, each in its place, as one WebP file.
    """

    directions: tuple[Direction, ...]
    likeness: Likeness | None
    map_seeds: NDArray[np.int64]
    sheet: bytes

    def tables(self) -> bytes:
        """The contents of an atlas.npz, which has all but the sheet; the same for the same atlas."""
        arrays: dict[str, NDArray[Any]] = {
            "names": np.array([[one.name, one.low, one.high] for one in self.directions], dtype=np.str_),
            "vectors": np.array([one.vector for one in self.directions], dtype=np.float32),
            "stds": np.array([one.std for one in self.directions], dtype=np.float64),
            "map_seeds": self.map_seeds,
        }
        if self.likeness is not None:
            for number, (weight, bias) in enumerate(self.likeness.layers):
                arrays[f"likeness_{number}"] = weight.astype(np.float32)
                arrays[f"likeness_{number}_bias"] = bias.astype(np.float32)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        return buffer.getvalue()


def read_atlas(folder: ModelFolder) -> Atlas | None:
    """The atlas of a model, or None where it has none.

    Raises:
        ModelFolderError: its file cannot be used, or is of another latent size.
    """
    files = folder.manifest.atlas
    if files is None:
        return None
    try:
        with np.load(io.BytesIO(folder.content(files.tables)), allow_pickle=False) as arrays:
            return _atlas_of(arrays, folder.manifest.latent_dim, folder.content(files.sheet))
    except Exception as error:  # a damaged archive raises almost anything
        raise ModelFolderError(f"the atlas cannot be used ({error}); fit it again") from error


def _atlas_of(arrays: Mapping[str, NDArray[Any]], latent_dim: int, sheet: bytes) -> Atlas:
    names, vectors, stds, seeds = (arrays[name] for name in ("names", "vectors", "stds", "map_seeds"))
    count = len(stds)
    if count and (names.shape != (count, 3) or vectors.shape != (count, latent_dim)):
        raise ValueError("the directions do not match each other or the model")
    if not (np.isfinite(vectors).all() and np.isfinite(stds).all() and (stds > 0).all()):
        raise ValueError("not all directions are finite")
    if seeds.ndim != 2 or seeds.dtype != np.int64 or (seeds < 0).any() or (seeds > MAX_SEED).any():
        raise ValueError("the map is not a grid of seeds")
    directions = tuple(
        Direction(vector.astype(np.float32), float(std), *map(str, said))
        for vector, std, said in zip(vectors, stds, names, strict=True)
    )
    layers: list[tuple[NDArray[Any], NDArray[Any]]] = []
    while f"likeness_{len(layers)}" in arrays:
        name = f"likeness_{len(layers)}"
        layers.append((arrays[name], arrays[f"{name}_bias"]))
    likeness = Likeness(layers) if layers else None
    if likeness is not None and likeness.latent_dim != latent_dim:
        raise ValueError("the likeness is of another latent size")
    return Atlas(directions, likeness, seeds, sheet)
