"""Second layer of a code: what the decoder's picture misses, in components of 8 x 8 blocks, in whole steps.

Components are coded one after the other over all blocks. How likely a magnitude is to be 0 follows from its
class of spread and from a sum over the magnitudes that are known by then: those of its block, of the blocks
around it and of its own component in the blocks before it. The sums are whole numbers, so that every machine
finds the same.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.codes.range_coder import TOTAL, RangeDecoder
from app.codes.tables import BLOCK, CUTS, OCTAVE, CodeTables, Floats, Integers

RATE_WEIGHT = 0.14
"""Squared steps that a bit is worth when magnitudes are chosen."""
DEAD_ZONE = 0.4
"""What is added before a magnitude is rounded down, for the first guess."""
LARGEST = 40
"""Largest magnitude."""
HALF = (0, TOTAL // 2), (TOTAL // 2, TOTAL // 2)

Mask = NDArray[np.bool_]


class ResidualValues(NamedTuple):
    """A residual in whole steps."""

    step: int
    """Index of the step."""
    values: Integers
    """(K, B)."""


class ResidualChoices(NamedTuple):
    """The two magnitudes that each component may have; all arrays are (K, B)."""

    step: int
    coded: Mask
    classes: Integers
    upper: Integers
    lower: Integers
    worth: NDArray[np.float64]
    """Squared steps that the upper one is nearer, for each bit that it takes more."""
    signs: Integers


class ResidualLayer:
    """Residuals to whole numbers, and whole numbers to intervals of the range coder."""

    def __init__(self, tables: CodeTables) -> None:
        width, height = tables.size.tolist()
        self.rows, self.columns = height // BLOCK, width // BLOCK
        self._tables = tables
        self._basis = np.ascontiguousarray(tables.basis)
        self._components = tables.basis.shape[1]
        self._last_class = tables.residual_frequencies.shape[1] - 1
        # Floats, whose product is quick: sums of whole numbers far below 2**24 are exact in any order.
        self._own = np.triu(tables.own_weights, 1).T.astype(np.float32)
        self._near = np.triu(tables.near_weights, 1).T.astype(np.float32)
        self._both = np.ascontiguousarray(np.concatenate([self._own, self._near], axis=1))
        self.same = tables.same_weights.tolist()
        self._reach = len(tables.levels) - 1
        self.tail = int(tables.tail_frequency[0])
        self._frequencies = tables.residual_frequencies
        self._level_list: list[int] = tables.levels.tolist()
        self._stop_lists: list[list[list[int]]] = tables.residual_frequencies.transpose(1, 2, 0).tolist()
        self._bits = _bits(tables.residual_frequencies, self.tail)

    def components(self, residual: Floats) -> Floats:
        """(height, width, 3) grey levels -> (K, B)."""
        blocks = residual.reshape(self.rows, BLOCK, self.columns, BLOCK, 3).transpose(0, 2, 1, 3, 4)
        return self._basis.T @ blocks.reshape(self.rows * self.columns, -1).T

    def quantise(
        self, components: Floats, step: int, weight: float = RATE_WEIGHT
    ) -> tuple[ResidualValues, float]:
        """Components in whole steps, chosen by error and bits, and the bits they take.

        Args:
            weight: squared steps that a bit is worth.
        """
        return self.choose(self.choices(components, step), weight)

    def choices(self, components: Floats, step: int) -> ResidualChoices:
        """The two magnitudes that each component may have, and what decides between them."""
        coded, classes = self.coded(step), self.classes(step)
        magnitudes = np.abs(components) / self.width(step)
        guess = np.minimum(magnitudes + DEAD_ZONE, LARGEST).astype(np.int64) * coded
        levels = self.levels(guess)
        lower = np.maximum(guess - 1, 0)
        centroids = self._tables.residual_centroids
        gain = (magnitudes - _centroid(centroids, classes, lower)) ** 2
        gain -= (magnitudes - _centroid(centroids, classes, guess)) ** 2
        price = self._bits[guess, classes, levels] - self._bits[lower, classes, levels]
        with np.errstate(divide="ignore", invalid="ignore"):
            worth = np.where(price > 0, gain / price, np.where(gain > 0, np.inf, -np.inf))
        signs = np.where(components < 0, -1, 1)
        return ResidualChoices(step, coded, classes, guess, lower, worth, signs)

    def choose(self, choices: ResidualChoices, weight: float = RATE_WEIGHT) -> tuple[ResidualValues, float]:
        """The magnitudes that are worth their bits, and the bits they take; see quantise."""
        chosen = np.where(choices.worth > weight, choices.upper, choices.lower)
        bits = self._bits[chosen, choices.classes, self.levels(chosen)]
        return ResidualValues(choices.step, chosen * choices.signs), float(bits[choices.coded].sum())

    def error(self, components: Floats, residual: ResidualValues) -> float:
        """Squared grey levels between components and what whole steps stand for."""
        return float(((components - self._restored(residual)) ** 2).sum())

    def restore(self, residual: ResidualValues) -> Floats:
        """The residual (height, width, 3) float32, in grey levels, that whole steps stand for."""
        blocks = (self._basis @ self._restored(residual)).T.reshape(self.rows, self.columns, BLOCK, BLOCK, 3)
        return np.ascontiguousarray(blocks.transpose(0, 2, 1, 3, 4)).reshape(
            self.rows * BLOCK, self.columns * BLOCK, 3
        )

    def _restored(self, residual: ResidualValues) -> Floats:
        centroids = _centroid(
            self._tables.residual_centroids, self.classes(residual.step), np.abs(residual.values)
        )
        return (np.sign(residual.values) * centroids * self.width(residual.step)).astype(np.float32)

    def intervals(self, residual: ResidualValues) -> list[tuple[int, int]]:
        """What the range coder writes."""
        coded, classes = self.coded(residual.step), self.classes(residual.step)
        magnitudes = np.abs(residual.values)
        frequencies = self._frequencies[:, classes, self.levels(magnitudes)][:, coded]
        values = residual.values[coded]
        zero, more = frequencies[0], TOTAL - frequencies[0]
        first = list(
            zip(np.where(values, zero, 0).tolist(), np.where(values, more, zero).tolist(), strict=True)
        )
        written: list[tuple[int, int]] = []
        done = 0
        for place in np.flatnonzero(values).tolist():
            written += first[done : place + 1]
            written += self._beyond_zero(int(values[place]), *frequencies[1:, place].tolist())
            done = place + 1
        return written + first[done:]

    def _beyond_zero(self, value: int, one: int, two: int) -> list[tuple[int, int]]:
        """Sign and magnitude of a value that is known not to be 0."""
        written = [HALF[value < 0]]
        for more, stop in enumerate((one, two, *(LARGEST - CUTS) * (self.tail,)), 1):
            if abs(value) == more:
                return [*written, (0, stop)]
            written.append((stop, TOTAL - stop))
        return written

    def read(self, decoder: RangeDecoder, step: int) -> ResidualValues:
        """What the range coder reads."""
        coded, classes = self.coded(step), self.classes(step)
        blocks = self.rows * self.columns
        values = np.zeros((self._components, blocks), np.int64)
        known = np.zeros((2 * self._components, blocks), np.float32)  # magnitudes, and their sums around
        for component in np.flatnonzero(coded.any(axis=1)).tolist():
            sums = (self._both[component] @ known).astype(np.int64)
            levels = self._tables.levels[np.minimum(sums, self._reach)]
            places = np.flatnonzero(coded[component])
            zeros = self._frequencies[0, classes[component], levels][places]
            reader = _ComponentReader(self, component, sums, classes[component])
            row = reader.read(decoder, places.tolist(), zeros.tolist())
            values[component] = row
            if row.any():
                magnitudes = np.minimum(np.abs(row), CUTS)
                known[component] = magnitudes
                known[self._components + component] = self.around(magnitudes[None])[0]
        return ResidualValues(step, values)

    def stops(self, place: int, total: int) -> list[int]:
        """Frequencies of "no more" at each cut, of a class and a sum of weights."""
        return self._stop_lists[place][self._level_list[min(total, self._reach)]]

    def levels(self, magnitudes: Integers) -> Integers:
        """(K, B) magnitudes -> the level of the sum that each is coded under."""
        known = np.minimum(magnitudes, CUTS).astype(np.float32)
        sums = self._own @ known + self._near @ self.around(known) + self._same_sums(known)
        return self._tables.levels[np.minimum(sums, self._reach).astype(np.int64)]

    def around(self, magnitudes: NDArray[np.generic]) -> Floats:
        """(n, B) -> the sums over the eight blocks around each."""
        padded = self._padded(magnitudes)
        rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
        total = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:] - padded[:, 1:-1, 1:-1]
        sums: Floats = total.reshape(len(magnitudes), -1)
        return sums

    def before(self, magnitudes: Floats) -> tuple[Floats, Floats]:
        """(K, B) -> of the blocks before each, the sums of the two beside it and of the two diagonally."""
        padded = self._padded(magnitudes)
        beside = padded[:, 1:-1, :-2] + padded[:, :-2, 1:-1]
        diagonal = padded[:, :-2, :-2] + padded[:, :-2, 2:]
        return beside.reshape(len(magnitudes), -1), diagonal.reshape(len(magnitudes), -1)

    def _same_sums(self, magnitudes: Floats) -> Floats:
        beside, diagonal = self.before(magnitudes)
        weights = self._tables.same_weights.astype(np.float32)
        total: Floats = weights[:, :1] * beside + weights[:, 1:] * diagonal
        return total

    def _padded(self, magnitudes: NDArray[np.generic]) -> Floats:
        padded = np.zeros((len(magnitudes), self.rows + 2, self.columns + 2), np.float32)
        padded[:, 1:-1, 1:-1] = magnitudes.reshape(-1, self.rows, self.columns)
        return padded

    def coded(self, step: int) -> Mask:
        return self._tables.residual_classes + step >= 0

    def classes(self, step: int) -> Integers:
        return np.clip(self._tables.residual_classes + step, 0, self._last_class)

    def width(self, step: int) -> float:
        return float(self._tables.residual_step[0]) * 2 ** (-step / OCTAVE)


class _ComponentReader:
    """Reads one component over all blocks, in which what is found changes what is likely further on."""

    def __init__(self, layer: ResidualLayer, component: int, sums: Integers, classes: Integers) -> None:
        self._layer = layer
        self._sums: list[int] = sums.tolist()
        self._classes: list[int] = classes.tolist()
        self._weights = layer.same[component]

    def read(self, decoder: RangeDecoder, places: list[int], zeros: list[int]) -> Integers:
        """The values (B,).

        Args:
            places: blocks in which the component is coded.
            zeros: how often it is 0 in each of them, before any of its values is known.
        """
        values = np.zeros(len(self._sums), np.int64)
        position = {block: index for index, block in enumerate(places)}
        index = -1
        while (index := decoder.first_one(zeros, index + 1)) < len(zeros):
            block = places[index]
            value = self._value(decoder, block)
            values[block] = value
            for later, weight in self._later(block):
                self._sums[later] += weight * min(abs(value), CUTS)
                if later in position:
                    zeros[position[later]] = self._stops(later)[0]
        return values

    def _stops(self, block: int) -> list[int]:
        return self._layer.stops(self._classes[block], self._sums[block])

    def _value(self, decoder: RangeDecoder, block: int) -> int:
        """One that is not 0."""
        _, one, two = self._stops(block)
        tail = self._layer.tail
        negative = decoder.symbol((0, TOTAL // 2))
        magnitude = 1
        for stop in (one, two, *(LARGEST - CUTS) * (tail,)):
            if not decoder.symbol((0, stop)):
                break
            magnitude += 1
        return -magnitude if negative else magnitude

    def _later(self, block: int) -> list[tuple[int, int]]:
        """The blocks behind a block whose chances it changes, and by which weight."""
        rows, columns = self._layer.rows, self._layer.columns
        beside, diagonal = self._weights
        row, column = divmod(block, columns)
        later = [(block + 1, beside)] if column + 1 < columns else []
        if row + 1 < rows:
            later.append((block + columns, beside))
            if column:
                later.append((block + columns - 1, diagonal))
            if column + 1 < columns:
                later.append((block + columns + 1, diagonal))
        return later


def _centroid(centroids: Floats, classes: Integers, magnitudes: Integers) -> Floats:
    """What magnitudes stand for, in steps; those beyond the table are as far beyond its last one."""
    beyond = np.maximum(magnitudes - CUTS, 0)
    found: Floats = centroids[classes, magnitudes - beyond] + beyond
    return found


def _bits(frequencies: Integers, tail: int) -> NDArray[np.float64]:
    """(LARGEST + 1, classes, levels): what each magnitude takes, with its sign."""
    stop, more = np.log2(TOTAL / frequencies), np.log2(TOTAL / (TOTAL - frequencies))
    stop_tail, more_tail = np.log2(TOTAL / tail), np.log2(TOTAL / (TOTAL - tail))
    rows = [stop[0], 1 + more[0] + stop[1], 1 + more[0] + more[1] + stop[2]]
    beyond = 1 + more.sum(axis=0)
    for magnitude in range(CUTS, LARGEST + 1):
        last = 0.0 if magnitude == LARGEST else stop_tail
        rows.append(beyond + more_tail * (magnitude - CUTS) + last)
    return np.stack(rows)
