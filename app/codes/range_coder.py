"""Range coder: intervals of whole numbers -> bytes and back, exact on every machine.

Arithmetic coding (Martin 1979) with a window of 48 bits. The interval's lower end is a whole number of any
length, so X
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import chain, repeat

PRECISION = 16
"""Bits of a frequency."""
TOTAL = 1 << PRECISION
"""What the frequencies of all values of a symbol sum to."""

WINDOW = 48
WORD = 16
FLOOR = 1 << (WINDOW - WORD)


class DamagedBytesError(ValueError):
    """No encoder can have written these bytes."""


def encode(intervals: Iterable[tuple[int, int]]) -> bytes:
    """The bytes of symbols, each given as (start, size) of its value among TOTAL; no size is 0."""
    low, width, words = 0, 1 << WINDOW, 0
    for start, size in intervals:
        part = width >> PRECISION
        low += start * part
        width = size * part
        if width < FLOOR:
            low <<= WORD
            width <<= WORD
            words += 1
    return _fraction(low, width, WINDOW + WORD * words)


def _fraction(low: int, width: int, bits: int) -> bytes:
    """As many bytes as an interval of this width always has room for: the lowest that lie in it."""
    length = -(-(bits - width.bit_length() + 1) // 8)
    return (-(-low >> (bits - 8 * length))).to_bytes(length, "big")


class RangeDecoder:
    """Reads the symbols of what `encode` returned, in the same order and under the same frequencies."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        padded = data + bytes(-len(data) % 2)
        words = (int.from_bytes(padded[i : i + 2], "big") for i in range(0, len(padded), 2))
        self._words = chain(words, repeat(0))
        self._code = 0
        for _ in range(WINDOW // WORD):
            self._code = self._code << WORD | next(self._words)
        self._width = 1 << WINDOW
        self._read = WINDOW
        # Whatever `encode` wrote takes fewer: reading on would be work for nothing.
        self._most = 8 * len(data) + WINDOW

    def symbol(self, starts: Sequence[int]) -> int:
        """The place of one symbol among the starts of its values' intervals, which rise from 0.

        Raises:
            DamagedBytesError: the bytes name none, or have ended before.
        """
        part = self._width >> PRECISION
        value = self._code // part
        if value >= TOTAL:
            raise DamagedBytesError("no symbol")
        place = bisect_right(starts, value) - 1
        end = starts[place + 1] if place + 1 < len(starts) else TOTAL
        self._code -= starts[place] * part
        self._width = (end - starts[place]) * part
        if self._width < FLOOR:
            self._shift()
        return place

    def first_one(self, zeros: Sequence[int], begin: int) -> int:
        """Read bits until one is set: its index, or the number of bits where none is.

        Args:
            zeros: of each bit the frequency of 0.
            begin: index of the first bit that has not been read.

        Raises:
            DamagedBytesError: the bytes name no bit, or have ended before.
        """
        code, width = self._code, self._width
        index, count = begin, len(zeros)
        while index < count:
            part = width >> PRECISION
            bound = part * zeros[index]
            if code >= bound:
                if code >= part << PRECISION:
                    raise DamagedBytesError("no symbol")
                self._code, self._width = code - bound, (part << PRECISION) - bound
                if self._width < FLOOR:
                    self._shift()
                return index
            width = bound
            if width < FLOOR:
                width <<= WORD
                code = code << WORD | self._next_word()
            index += 1
        self._code, self._width = code, width
        return count

    def finish(self) -> None:
        """Check that these are the bytes that `encode` writes for what was read.

        Raises:
            DamagedBytesError: they are not.
        """
        rest = self._read - 8 * len(self._data)
        if rest < 0:
            raise DamagedBytesError("there are bytes behind the end")
        low = (int.from_bytes(self._data, "big") << rest) - self._code
        if low < 0 or _fraction(low, self._width, self._read) != self._data:
            raise DamagedBytesError("these are not the bytes of what they say")

    def _shift(self) -> None:
        self._width <<= WORD
        self._code = self._code << WORD | self._next_word()

    def _next_word(self) -> int:
        self._read += WORD
        if self._read >= self._most:
            raise DamagedBytesError("the bytes end before what they say")
        return next(self._words)
