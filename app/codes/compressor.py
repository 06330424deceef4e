"""Latents as few bytes: decorrelated, quantised and entropy-coded under statistics of the training set.

A latent is scaled by the standard deviations of the posteriors, which say how exact each of its numbers is,
and turned to the principal axes of the training latents (Karhunen-Loeve transform). One step quantises all
coefficients there, and an arithmetic coder writes them under Gaussian frequencies. The coder knows integers
only, so that what is written on one machine is read on any other.
"""

import io
import itertools
import math
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.codes.entropy_coder import PRECISION

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
TOTAL = 1 << PRECISION
REACH = 8.0
"""Standard deviations from the mean at which a coefficient is clipped; no training latent comes near."""


@dataclass(frozen=True)
class Statistics:
    """How the latents of the training set vary, along the axes that are coded."""

    mean: Doubles
    """(L,) of the latents."""
    scales: Doubles
    """(L,) root mean square of the posteriors' standard deviations."""
    axes: Doubles
    """(L, L) orthogonal; its columns are the principal axes of the scaled latents, most varied first."""
    deviations: Doubles
    """(L,) standard deviations along the axes."""

    @staticmethod
    def fit(mean: Floats, log_variance: Floats) -> "Statistics":
        """The statistics of posteriors, each argument (N, L) float32.

        Raises:
            ValueError: no more latents than dimensions.
        """
        count, dimensions = mean.shape
        if count <= dimensions:
            raise ValueError(f"{count} latents are too few for statistics in {dimensions} dimensions")
        scales = np.sqrt(np.exp(log_variance.astype(np.float64)).mean(axis=0))
        center = mean.mean(axis=0, dtype=np.float64)
        scaled = (mean - center) / scales
        variances, axes = np.linalg.eigh(scaled.T @ scaled / count)  # sorted upwards
        return Statistics(center, scales, axes[:, ::-1], np.sqrt(np.maximum(variances[::-1], 0)))

    def coefficients(self, latents: Floats) -> Doubles:
        """(N, L) latents along the axes."""
        turned: Doubles = (latents - self.mean) / self.scales @ self.axes
        return turned

    def latents(self, coefficients: Doubles) -> Floats:
        """The inverse of `coefficients`, (N, L) float32."""
        return np.asarray(coefficients @ self.axes.T * self.scales + self.mean, dtype=np.float32)


class Compressor:
    """Latents to bytes and back at one quality. Nothing but this object is needed to read the bytes again."""

    def __init__(self, statistics: Statistics, step: float, frequencies: list[list[int]]) -> None:
        """Use `fit` or `load`.

        Args:
            step: distance of the quantised values along each axis; 1 is the width of a typical posterior.
            frequencies: for each axis an odd number of positive integers that sum to TOTAL, of the values
                from the lowest to the highest, 0 in the middle.

        Raises:
            ValueError: the arguments do not describe a compressor.
        """
        dimensions = len(statistics.mean)
        _check_step(step)
        if len(frequencies) != dimensions:
            raise ValueError(f"{len(frequencies)} tables of frequencies do not fit {dimensions} dimensions")
        for table in frequencies:
            if len(table) % 2 == 0 or min(table) < 1 or sum(table) != TOTAL:
                raise ValueError("a table of frequencies is damaged")
        self.statistics = statistics
        self.step = step
        self.frequencies = frequencies
        self._limits: Integers = np.array([len(table) // 2 for table in frequencies])
        self._starts = [list(itertools.accumulate(table, initial=0))[:-1] for table in frequencies]

    @staticmethod
    def fit(statistics: Statistics, step: float) -> "Compressor":
        """A compressor with the frequencies of a Gaussian on each axis.

        Raises:
            ValueError: the step is not positive, or too fine for the precision of the frequencies.
        """
        _check_step(step)
        return Compressor(statistics, step, [_gaussian(float(d), step) for d in statistics.deviations])

    def quantise(self, latents: Floats) -> Integers:
        """(N, L) finite latents -> (N, L) multiples of the step; clipped REACH deviations from the mean."""
        steps = np.rint(self.statistics.coefficients(latents) / self.step)
        return np.clip(steps, -self._limits, self._limits).astype(np.int64)

    def restore(self, values: Integers) -> Floats:
        """What `quantise` left of the latents: (N, L) integers -> (N, L) float32."""
        return self.statistics.latents(values.astype(np.float64) * self.step)

    def compress(self, latent: Floats) -> bytes:
        """The bytes of one latent (L,).

        Raises:
            ValueError: not all numbers are finite.
        """
        if not np.isfinite(latent).all():
            raise ValueError("not all numbers of the latent are finite")
        return self.pack(self.quantise(latent[None])[0])

    def decompress(self, data: bytes) -> Floats:
        """The latent (L,) float32 in what `compress` returned.

        Raises:
            ValueError: it cannot have returned these bytes. There is no checksum: other damage gives another
                latent.
        """
        latent: Floats = self.restore(self.unpack(data)[None])[0]
        return latent

    def pack(self, values: Integers) -> bytes:
        """Arithmetic coding (Rissanen 1976) in whole numbers of any length, which needs no rounding.

        The values narrow an interval of width 2**(PRECISION * L), and the shortest fraction that lies in it
        is written. Latents are short enough for that; a coder with a register of fixed size would be more to
        read and would write up to a word more.

        Args:
            values: (L,) as `quantise` gives them.
        """
        low, width = 0, 1
        for value, limit, table, starts in zip(
            values.tolist(), self._limits.tolist(), self.frequencies, self._starts, strict=True
        ):
            low = (low << PRECISION) + starts[value + limit] * width
            width *= table[value + limit]
        bits = PRECISION * len(values)
        for length in range(bits // 8):
            rest = bits - 8 * length
            fraction = -(-low >> rest)  # rounded up
            if fraction << rest < low + width:
                return fraction.to_bytes(length, "big")
        return low.to_bytes(bits // 8, "big")

    def unpack(self, data: bytes) -> Integers:
        """The values (L,) in what `pack` returned.

        Raises:
            ValueError: it cannot have returned these bytes.
        """
        bits = PRECISION * len(self.frequencies)
        values: list[int] = []
        if 8 * len(data) <= bits:
            rest = int.from_bytes(data, "big") << (bits - 8 * len(data))
            width = 1 << bits
            for table, starts in zip(self.frequencies, self._starts, strict=True):
                width >>= PRECISION  # exact: the factors 2**PRECISION are used up one by one
                index = bisect_right(starts, rest // width) - 1
                rest -= starts[index] * width
                width *= table[index]
                values.append(index - len(table) // 2)
        found = np.array(values, dtype=np.int64)
        if not values or self.pack(found) != data:
            raise ValueError("these bytes are damaged or of another compressor")
        return found

    def save(self, path: Path) -> None:
        """Write everything that `load` needs as plain arrays."""
        tables = np.concatenate(self.frequencies).astype(np.uint32)
        lengths = np.array([len(table) for table in self.frequencies])
        np.savez_compressed(
            path, step=self.step, frequencies=tables, lengths=lengths, **vars(self.statistics)
        )

    @staticmethod
    def load(path: Path) -> "Compressor":
        """Read what `save` wrote.

        Raises:
            ValueError: no such file, or it is damaged.
        """
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
                tables = np.split(arrays["frequencies"].astype(np.int64), np.cumsum(arrays["lengths"])[:-1])
                names = ("mean", "scales", "axes", "deviations")
                statistics = Statistics(*(np.asarray(arrays[name], dtype=np.float64) for name in names))
                return Compressor(statistics, float(arrays["step"]), [table.tolist() for table in tables])
        except Exception as error:  # a damaged archive raises almost anything
            raise ValueError(f"no compressor in {path} ({error})") from error


def _check_step(step: float) -> None:
    if not (math.isfinite(step) and step > 0):
        raise ValueError(f"the step must be positive, not {step}")


def _gaussian(deviation: float, step: float) -> list[int]:
    """Frequencies of the multiples of the step under N(0, deviation**2), as far out as REACH; none is 0."""
    limit = round(REACH * deviation / step)
    count = 2 * limit + 1
    if count > TOTAL // 2:
        raise ValueError(f"the step {step} is too fine: an axis has a standard deviation of {deviation:.3g}")
    if limit == 0:
        return [TOTAL]
    edges = [(i - limit - 0.5) * step / (deviation * math.sqrt(2)) for i in range(1, count)]
    below = [0.0, *(0.5 * math.erfc(-edge) for edge in edges), 1.0]
    spare = TOTAL - count
    table = [1 + max(0, math.floor(spare * (high - low))) for low, high in itertools.pairwise(below)]
    table[limit] += TOTAL - sum(table)
    return table
