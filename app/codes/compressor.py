"""Compressor: latents <-> bytes, by the statistics of a training set, a quantiser and an entropy coder.

A latent is scaled by the standard deviations of the posteriors, which say how exact each of its numbers is,
and turned to the principal axes of the training latents (Karhunen-Loeve transform). One step quantises all
coefficients there, and the entropy coder writes them under Gaussian frequencies. It knows integers only, so
that what is written on one machine is read on any other.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.codes import entropy_coder
from app.codes.entropy_coder import FrequencyTable, gaussian_table

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
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

    def __init__(self, statistics: Statistics, step: float, tables: Sequence[FrequencyTable]) -> None:
        """Use `fit` or `load`.

        Args:
            step: distance of the quantised values along each axis; 1 is the width of a typical posterior.
            tables: for each axis the frequencies of its quantised values.

        Raises:
            ValueError: the arguments do not describe a compressor.
        """
        dimensions = len(statistics.mean)
        _check_step(step)
        if len(tables) != dimensions:
            raise ValueError(f"{len(tables)} tables of frequencies do not fit {dimensions} dimensions")
        self.statistics = statistics
        self.step = step
        self.tables = tuple(tables)
        self._limits: Integers = np.array([table.limit for table in tables])

    @staticmethod
    def fit(statistics: Statistics, step: float) -> "Compressor":
        """A compressor with the frequencies of a Gaussian on each axis.

        Raises:
            ValueError: the step is not positive, or too fine for the precision of the frequencies.
        """
        _check_step(step)
        tables = [gaussian_table(float(deviation), step, REACH) for deviation in statistics.deviations]
        return Compressor(statistics, step, tables)

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
        return entropy_coder.encode(self.quantise(latent[None])[0].tolist(), self.tables)

    def decompress(self, data: bytes) -> Floats:
        """The latent (L,) float32 in what `compress` returned.

        Raises:
            ValueError: it cannot have returned these bytes. There is no checksum: other damage gives another
                latent.
        """
        values = np.array([entropy_coder.decode(data, self.tables)], dtype=np.int64)
        latent: Floats = self.restore(values)[0]
        return latent

    def save(self, path: Path) -> None:
        """Write everything that `load` needs as plain arrays."""
        frequencies = [table.frequencies for table in self.tables]
        np.savez_compressed(
            path,
            step=self.step,
            frequencies=np.concatenate(frequencies).astype(np.uint32),
            lengths=np.array([len(table) for table in frequencies]),
            **vars(self.statistics),
        )

    @staticmethod
    def load(path: Path) -> "Compressor":
        """Read what `save` wrote.

        Raises:
            ValueError: no such file, or it is damaged.
        """
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
                frequencies = arrays["frequencies"].astype(np.int64)
                parts = np.split(frequencies, np.cumsum(arrays["lengths"])[:-1])
                tables = [FrequencyTable(part.tolist()) for part in parts]
                names = ("mean", "scales", "axes", "deviations")
                statistics = Statistics(*(np.asarray(arrays[name], dtype=np.float64) for name in names))
                return Compressor(statistics, float(arrays["step"]), tables)
        except Exception as error:  # a damaged archive raises almost anything
            raise ValueError(f"no compressor in {path} ({error})") from error


def _check_step(step: float) -> None:
    if not (math.isfinite(step) and step > 0):
        raise ValueError(f"the step must be positive, not {step}")
