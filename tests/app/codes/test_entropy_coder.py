import numpy as np
import pytest

from app.codes.entropy_coder import TOTAL, FrequencyTable, decode, encode, gaussian_table

RANDOM = np.random.default_rng(0)
DEVIATIONS = (9.0, 4.0, 4.0, 2.0, 1.0, 0.5, 0.1, 1e-6)
REACH = 8.0


@pytest.mark.parametrize("step", [0.05, 0.7, 5.0, 1000.0])
def test_integers_are_coded_exactly_and_in_the_bytes_they_need(step: float) -> None:
    tables = [gaussian_table(deviation, step, REACH) for deviation in DEVIATIONS]
    limits = np.array([table.limit for table in tables])
    extremes = [-limits, limits, 0 * limits, limits * (-1) ** np.arange(len(tables))]
    uniform = [RANDOM.integers(-limits, limits + 1) for _ in range(200)]
    normal = [
        np.clip(np.rint(RANDOM.standard_normal(len(tables)) * DEVIATIONS / step), -limits, limits).astype(int)
        for _ in range(200)
    ]
    for values in (row.tolist() for row in [*extremes, *uniform, *normal]):
        data = encode(values, tables)
        assert decode(data, tables) == values
        likelihoods = [
            table.frequencies[value + table.limit] / TOTAL
            for value, table in zip(values, tables, strict=True)
        ]
        assert len(data) <= -np.log2(likelihoods).sum() / 8 + 1


def test_bytes_by_hand() -> None:
    tables = [FrequencyTable([TOTAL // 4, TOTAL // 2, TOTAL // 4])] * 2
    for values, data in (
        ([0, 0], b"\x60"),  # 0.375 to 0.625
        ([-1, -1], b""),  # 0 to 0.0625
        ([1, 1], b"\xf0"),  # 0.9375 to 1
    ):
        assert encode(values, tables) == data
        assert decode(data, tables) == values


def test_a_gaussian_table_is_the_frozen_one() -> None:
    tail = [3971, 392, 16, 1, 1, 1, 1]
    assert gaussian_table(1.0, 1.0, REACH).frequencies == [*tail[::-1], 15838, 25094, 15838, *tail]


def test_codes_under_gaussian_tables_are_the_frozen_ones() -> None:
    tables = [gaussian_table(deviation, 1.0, REACH) for deviation in (2.0, 1.0, 0.01)]
    for values, data in (([3, -2, 0], b"\xe6"), ([-16, 8, 0], b"\0\0\xff\xff")):
        assert encode(values, tables) == data
        assert decode(data, tables) == values


def test_a_value_that_is_alone_costs_nothing() -> None:
    certain = gaussian_table(1e-6, 1.0, REACH)
    assert certain.frequencies == [TOTAL]
    assert encode([0] * 9, [certain] * 9) == b""
    assert decode(b"", [certain] * 9) == [0] * 9


def test_values_beyond_a_table_are_no_values_of_it() -> None:
    table = gaussian_table(1.0, 1.0, REACH)
    with pytest.raises(IndexError):
        encode([table.limit + 1], [table])
    with pytest.raises(ValueError, match="zip"):
        encode([0, 0], [table])


@pytest.mark.parametrize("data", [b"\x60\0", b"\0", b"\xff\xff\xff\xff\xff"])
def test_bytes_that_no_values_give_are_refused(data: bytes) -> None:
    tables = [FrequencyTable([TOTAL // 4, TOTAL // 2, TOTAL // 4])] * 2
    with pytest.raises(ValueError, match="damaged or of another compressor"):
        decode(data, tables)


def test_a_step_too_fine_for_the_frequencies_is_refused() -> None:
    with pytest.raises(ValueError, match="too fine"):
        gaussian_table(1.0, 1e-4, REACH)


@pytest.mark.parametrize("frequencies", [[TOTAL - 1], [TOTAL // 2] * 2, [0, TOTAL, 0], [-1, TOTAL + 2, -1]])
def test_frequencies_that_cannot_be_used_are_refused(frequencies: list[int]) -> None:
    with pytest.raises(ValueError, match="damaged"):
        FrequencyTable(frequencies)
