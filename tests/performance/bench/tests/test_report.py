"""Medians, ratios within a round, tables."""

import pytest

from tests.performance.bench.report import (
    METRICS,
    Sample,
    Start,
    Summary,
    cases,
    load_table,
    ratios,
    score,
    start_table,
    summarise,
)

TITLES = {"ours": "this service", "peer": "Peer", "other": "Other"}


def sample(
    server: str, round_: int, cpu_ms: float, per_second: float = 100.0, connections: int = 32
) -> Sample:
    return Sample(server, "encode", connections, round_, cpu_ms, per_second, 1.0, 2.0, 300.0, failed=0)


def test_a_summary_is_median_least_and_most() -> None:
    assert summarise([3.0, 1.0, 10.0]) == Summary(3.0, 1.0, 10.0)
    assert str(summarise([1.234])) == "1.23"
    assert str(summarise([0.5, 1234.5, 99.5])) == "99.5 (0.5-1234)"


def test_ratios_are_formed_within_a_round() -> None:
    # The machine was three times slower in the second round: the ratio of medians would be 2.
    samples = [sample("ours", 1, 1), sample("peer", 1, 2), sample("ours", 2, 3), sample("peer", 2, 6)]
    samples += [sample("ours", 3, 2), sample("peer", 4, 100)]
    found = ratios(samples, "ours", "peer", METRICS["CPU ms"])
    assert found == Summary(0.5, 0.5, 0.5)


def test_no_common_round_no_ratio() -> None:
    assert ratios([sample("ours", 1, 1), sample("peer", 2, 2)], "ours", "peer", METRICS["CPU ms"]) is None


def test_cases_are_split_by_connections() -> None:
    samples = [sample("ours", 1, 1, connections=8), sample("ours", 1, 1), sample("peer", 1, 1)]
    found = cases(samples)
    assert list(found) == [("encode", 8), ("encode", 32)]
    assert [len(case) for case in found.values()] == [1, 2]


def test_the_table_has_the_cheapest_first_and_ratios_beside_the_peers() -> None:
    samples = [
        sample("other", 1, 8.0, 50),
        sample("ours", 1, 2.0, 200),
        sample("peer", 1, 1.0, 400),
        sample("ours", 2, 2.0, 200),
    ]
    lines = load_table(samples, "ours", TITLES).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    ratio = rows[0].index("our CPU ms / its")
    assert [row[0] for row in rows[2:]] == ["Peer", "**this service**", "Other"]
    assert [row[ratio : ratio + 2] for row in rows[2:]] == [["2", "0.5"], ["", ""], ["0.25", "4"]]
    assert len({len(row) for row in rows}) == 1


def test_the_table_of_starts() -> None:
    starts = [Start("peer", "2 workers", number, 1.0 + number, 300.0, 0.25) for number in (0, 1, 2)]
    assert "| Peer | 2 workers | 2 (1-3) | 300 | 25 |" in start_table(starts, TITLES)


def test_a_variant_that_gives_more_for_less_scores_higher() -> None:
    base = [sample("peer", 0, 2.0, 100), sample("peer", 0, 4.0, 50)]
    assert score(base) == pytest.approx(25)
    assert score([sample("peer", 0, 1.0, 100), base[1]]) > score(base)
    assert score([sample("peer", 0, 2.0, 120), base[1]]) > score(base)
