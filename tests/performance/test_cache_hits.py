"""The simulation of a cache: against what can be said without one."""

import numpy as np
import pytest

from tests.performance.cache_hits import BLOCK, Costs, file_bytes, hit_ratio, zipf


def test_what_was_not_asked_for_the_longest_goes() -> None:
    # Room for two: 0 and 1 stay as they are asked for in turn; 2 pushes out 0, then 0 pushes out 1.
    assert hit_ratio([0, 1, 0, 1], [5, 5, 5], 10, warming=0) == 0.5
    assert hit_ratio([0, 1, 2, 0, 1], [5, 5, 5], 10, warming=0) == 0.0
    assert hit_ratio([0, 1, 2, 2, 1], [5, 5, 5], 10, warming=3) == 1.0


def test_large_files_push_out_several_and_may_not_fit() -> None:
    assert hit_ratio([0, 1, 2, 0, 1], [3, 3, 10], 10, warming=3) == 0.0
    assert hit_ratio([0, 2, 2, 0], [3, 3, 11], 10, warming=1) == 0.0


def test_where_all_are_liked_alike_hits_are_what_fits() -> None:
    trace = zipf(60_000, 0, 1000, seed=1)
    assert np.bincount(trace, minlength=1000).min() > 20
    assert hit_ratio(trace.tolist(), [BLOCK] * 1000, 250 * BLOCK, 5000) == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("alpha", [0.7, 1.0, 1.3])
def test_hits_of_a_zipf_trace_are_those_of_ches_approximation(alpha: float) -> None:
    pictures, room = 2000, 200
    chances = np.arange(1, pictures + 1) ** -alpha
    chances /= chances.sum()
    # Che, Tung and Wang (2002): a picture stays for the time in which `room` others are asked for.
    low, high = 1.0, 1e7
    for _ in range(60):
        stay = (low * high) ** 0.5
        low, high = (stay, high) if (1 - np.exp(-chances * stay)).sum() < room else (low, stay)
    expected = (chances * (1 - np.exp(-chances * low))).sum()
    trace = zipf(120_000, alpha, pictures, seed=3).tolist()
    assert hit_ratio(trace, [1] * pictures, room, 20_000) == pytest.approx(expected, abs=0.01)


def test_files_take_whole_blocks() -> None:
    sizes = file_bytes(2000, 1700, seed=1)
    assert set(sizes.tolist()) <= {BLOCK, 2 * BLOCK}
    assert file_bytes(2000, 20_000, seed=1).mean() == pytest.approx(20_000 + 700 + BLOCK / 2, rel=0.05)


def test_cores_are_work_over_what_a_core_may_do() -> None:
    costs = Costs(hit=0.03, passed_on=0.06, cold=3.0)
    cache, service = costs.cores(10_000, 0.9)
    assert cache == pytest.approx((9000 * 0.03 + 1000 * 0.06) / 1000 / 0.6)
    assert service == pytest.approx(1000 * 3.0 / 1000 / 0.6)
