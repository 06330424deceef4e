"""Entropy coder: integers -> bytes and back under tables of frequencies, exact on every machine.

Arithmetic coding (Rissanen 1976) in whole numbers of any length, which needs no rounding: the values narrow
an interval of width 2**(PRECISION * L), and the shortest fraction that lies in it is written. Latents are
short enough for that; a coder with a register of fixed size would be more to read and would write up to a
word more.
"""

import itertools
import math
from bisect import bisect_right
from collections.abc import Sequence

PRECISION = 16
"""Bits of a frequency."""
TOTAL = 1 << PRECISION
"""What the frequencies of one table sum to."""


class FrequencyTable:
    """How often each value from -limit to limit is to be expected, in parts of TOTAL."""

    def __init__(self, frequencies: Sequence[int]) -> None:
        """Make a table.

        Args:
            frequencies: an odd number of positive integers that sum to TOTAL, of the values from the lowest
                to the highest, 0 in the middle.

        Raises:
            ValueError: they are not.
        """
        if len(frequencies) % 2 == 0 or min(frequencies) < 1 or sum(frequencies) != TOTAL:
            raise ValueError("a table of frequencies is damaged")
        self.frequencies = list(frequencies)
        self.starts = list(itertools.accumulate(frequencies, initial=0))[:-1]
        self.limit = len(frequencies) // 2


def gaussian_table(deviation: float, step: float, reach: float) -> FrequencyTable:
    """The frequencies of the multiples of a step under N(0, deviation**2), as far out as `reach` deviations;
    none is 0. Floating point makes them, so a code is read under the very table that it was written under.

    Raises:
        ValueError: the step is too fine for the precision of the frequencies.
    """
    limit = round(reach * deviation / step)
    count = 2 * limit + 1
    if count > TOTAL // 2:
        raise ValueError(f"the step {step} is too fine: an axis has a standard deviation of {deviation:.3g}")
    if limit == 0:
        return FrequencyTable([TOTAL])
    edges = [(i - limit - 0.5) * step / (deviation * math.sqrt(2)) for i in range(1, count)]
    below = [0.0, *(0.5 * math.erfc(-edge) for edge in edges), 1.0]
    spare = TOTAL - count
    frequencies = [1 + max(0, math.floor(spare * (high - low))) for low, high in itertools.pairwise(below)]
    frequencies[limit] += TOTAL - sum(frequencies)
    return FrequencyTable(frequencies)


def encode(values: Sequence[int], tables: Sequence[FrequencyTable]) -> bytes:
    """The bytes of L values, each within the limit of its own table."""
    low, width = 0, 1
    for value, table in zip(values, tables, strict=True):
        place = value + table.limit
        low = (low << PRECISION) + table.starts[place] * width
        width *= table.frequencies[place]
    bits = PRECISION * len(values)
    for length in range(bits // 8):
        rest = bits - 8 * length
        fraction = -(-low >> rest)  # rounded up
        if fraction << rest < low + width:
            return fraction.to_bytes(length, "big")
    return low.to_bytes(bits // 8, "big")


def decode(data: bytes, tables: Sequence[FrequencyTable]) -> list[int]:
    """The values in what `encode` returned under the same tables.

    Raises:
        ValueError: it cannot have returned these bytes.
    """
    bits = PRECISION * len(tables)
    values: list[int] = []
    if 8 * len(data) <= bits:
        rest = int.from_bytes(data, "big") << (bits - 8 * len(data))
        width = 1 << bits
        for table in tables:
            width >>= PRECISION  # exact: the factors 2**PRECISION are used up one by one
            place = bisect_right(table.starts, rest // width) - 1
            rest -= table.starts[place] * width
            width *= table.frequencies[place]
            values.append(place - table.limit)
    if not values or encode(values, tables) != data:
        raise ValueError("these bytes are damaged or of another compressor")
    return values
