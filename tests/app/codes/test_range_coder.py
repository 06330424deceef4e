"""Range coder: what is written is read, in the fewest bytes, and nothing else is accepted."""

import itertools
import math

import numpy as np
import pytest

from app.codes.range_coder import TOTAL, DamagedBytesError, RangeDecoder, encode

RANDOM = np.random.RandomState(0)
STARTS = (0, 40_000, 60_000, 65_000, 65_535)
SIZES = [end - start for start, end in itertools.pairwise((*STARTS, TOTAL))]


def random_symbols(count: int) -> list[int]:
    chosen: list[int] = RANDOM.choice(len(STARTS), count, p=np.array(SIZES) / TOTAL).tolist()
    return chosen


def written(symbols: list[int]) -> bytes:
    return encode([(STARTS[symbol], SIZES[symbol]) for symbol in symbols])


def read(data: bytes, count: int) -> list[int]:
    decoder = RangeDecoder(data)
    symbols = [decoder.symbol(STARTS) for _ in range(count)]
    decoder.finish()
    return symbols


@pytest.mark.parametrize("count", [0, 1, 2, 7, 50, 400, 3000])
def test_what_is_written_is_read_again(count: int) -> None:
    for _ in range(5):
        symbols = random_symbols(count)
        assert read(written(symbols), count) == symbols


def test_rare_symbols_come_back_too() -> None:
    symbols = [4] * 30 + [0, 4] * 20
    assert read(written(symbols), len(symbols)) == symbols


def test_bytes_are_within_one_of_what_the_frequencies_say() -> None:
    for _ in range(20):
        symbols = random_symbols(500)
        bits = sum(math.log2(TOTAL / SIZES[symbol]) for symbol in symbols)
        assert bits / 8 - 1 <= len(written(symbols)) <= bits / 8 + 1


def test_bytes_are_those_of_today() -> None:
    assert written([0, 1, 2, 3, 4, 0, 0, 1, 0, 2]).hex() == "8ea93dddb6"


def test_bits_are_read_up_to_the_next_one() -> None:
    zeros = RANDOM.randint(1, TOTAL, 700).tolist()
    ones = [RANDOM.randint(TOTAL) >= zero for zero in zeros]
    data = encode([(zero, TOTAL - zero) if one else (0, zero) for zero, one in zip(zeros, ones, strict=True)])
    decoder, found, index = RangeDecoder(data), [False] * 700, -1
    while (index := decoder.first_one(zeros, index + 1)) < 700:
        found[index] = True
    decoder.finish()
    assert found == ones


def test_longer_shorter_and_random_bytes_are_refused() -> None:
    accepted = 0
    for length in range(1, 60):
        data = written(random_symbols(100))
        for bad in (data + b"\0", data + b"x", data[:-1], RANDOM.bytes(length)):
            try:
                symbols = read(bad, 100)
            except DamagedBytesError:
                continue
            accepted += 1
            assert written(symbols) == bad
    assert accepted <= 12
