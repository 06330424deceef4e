"""First layer of a code: a latent, turned to its principal coefficients, in whole steps."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.codes.range_coder import TOTAL, RangeDecoder
from app.codes.tables import OCTAVE, CodeTables, Floats, Integers

RATE_WEIGHT = 0.12
"""Squared steps that a bit is worth when magnitudes are chosen; it is (ln 2) / 6 where steps are fine."""


class LatentValues(NamedTuple):
    """A latent in whole steps."""

    step: int
    """Index of the step."""
    values: Integers
    """(L,)."""


class LatentLayer:
    """Latents to whole numbers, and whole numbers to intervals of the range coder."""

    def __init__(self, tables: CodeTables) -> None:
        self._tables = tables
        self._reach = tables.latent_frequencies.shape[1] // 2
        self._last_class = len(tables.latent_frequencies) - 1
        starts = np.cumsum(tables.latent_frequencies, axis=1) - tables.latent_frequencies
        self._starts = starts.tolist()
        self._sizes = tables.latent_frequencies.tolist()
        self._bits = np.log2(TOTAL / tables.latent_frequencies[:, self._reach :])

    def coefficients(self, latent: Floats) -> Floats:
        """(L,) float32 -> (L,), the most varied first."""
        turned = (latent - self._tables.latent_mean) @ self._tables.latent_forward
        return np.asarray(turned, np.float32)

    def quantise(
        self, coefficients: Floats, step: int, weight: float = RATE_WEIGHT
    ) -> tuple[LatentValues, float]:
        """Coefficients in whole steps, chosen by error and bits, and the bits they take.

        Args:
            weight: squared steps that a bit is worth.
        """
        classes = self._classes(step)
        magnitudes = np.abs(coefficients) / self._width(step)
        upper = np.minimum(np.rint(magnitudes), self._reach).astype(np.int64)
        choices = np.stack([upper, np.maximum(upper - 1, 0)])
        bits = self._bits[classes, choices]
        errors = (magnitudes - self._tables.latent_centroids[classes, choices]) ** 2
        places = np.arange(len(classes))
        chosen = np.argmin(errors + weight * bits, axis=0)
        coded = self._coded(step)
        values = np.where(coded, choices[chosen, places], 0) * np.sign(coefficients).astype(np.int64)
        return LatentValues(step, values), float(bits[chosen, places][coded].sum())

    def restore(self, latent: LatentValues) -> Floats:
        """The latent (L,) float32 that whole steps stand for."""
        restored = (
            self._restored(latent).astype(np.float32) @ self._tables.latent_inverse + self._tables.latent_mean
        )
        return np.asarray(restored, dtype=np.float32)

    def error(self, coefficients: Floats, latent: LatentValues) -> float:
        """Squared grey levels between coefficients and what whole steps stand for."""
        return float(((coefficients - self._restored(latent)) ** 2).sum())

    def _restored(self, latent: LatentValues) -> Floats:
        centroids = self._tables.latent_centroids[self._classes(latent.step), np.abs(latent.values)]
        restored: Floats = np.sign(latent.values) * centroids * self._width(latent.step)
        return restored

    def intervals(self, latent: LatentValues) -> Iterator[tuple[int, int]]:
        """What the range coder writes."""
        coded = np.flatnonzero(self._coded(latent.step))
        classes = self._classes(latent.step)[coded].tolist()
        for place, value in zip(classes, (latent.values[coded] + self._reach).tolist(), strict=True):
            yield self._starts[place][value], self._sizes[place][value]

    def read(self, decoder: RangeDecoder, step: int) -> LatentValues:
        """What the range coder reads."""
        coded = np.flatnonzero(self._coded(step))
        values = np.zeros(len(self._tables.latent_classes), np.int64)
        classes = self._classes(step)[coded].tolist()
        values[coded] = [decoder.symbol(self._starts[place]) - self._reach for place in classes]
        return LatentValues(step, values)

    def _coded(self, step: int) -> NDArray[np.bool_]:
        return self._tables.latent_classes + step >= 0

    def _classes(self, step: int) -> Integers:
        return np.clip(self._tables.latent_classes + step, 0, self._last_class)

    def _width(self, step: int) -> float:
        return float(self._tables.latent_step[0]) * 2 ** (-step / OCTAVE)
