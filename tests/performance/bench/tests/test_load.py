"""What wrk prints, and what is made of it."""

from pathlib import Path

import pytest

from tests.performance.bench.load import (
    ANSWERS_PER_CONNECTION,
    MOST_TIMES_LONGER,
    Load,
    Measurement,
    NothingAnswered,
    long_enough,
    measure,
    parse_wrk,
)

OUTPUT = """Running 2s test @ http://127.0.0.1:8000/encode
  1 threads and 32 connections
  2700 requests in 2.00s, 13.5MB read
RESULT {"requests": 2700, "duration_us": 2003000, "p50_us": 23100, "p99_us": 41500, \
"max_us": 60000, "bytes": 14155776, "connect_errors": 1, "read_errors": 2, "write_errors": 3, \
"status_errors": 400, "timeouts": 4}
"""


def load(answered: int, seconds: float) -> Load:
    return Load(answered, failed=0, seconds=seconds, p50_ms=1.0, p99_ms=2.0)


def test_refused_requests_are_not_answered_ones() -> None:
    found = parse_wrk(OUTPUT)
    assert (found.answered, found.failed) == (2300, 410)
    assert (found.seconds, found.p50_ms, found.p99_ms) == (2.003, 23.1, 41.5)
    assert found.per_second == pytest.approx(2300 / 2.003)


def test_output_without_a_result_is_an_error() -> None:
    with pytest.raises(ValueError, match="unable to connect"):
        parse_wrk("unable to connect to 127.0.0.1:8000 Connection refused\n")


def test_cpu_ms_is_per_request_answered() -> None:
    assert Measurement(load(2300, 2.0), cpu_seconds=4.6, memory_bytes=0).cpu_ms == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("rate", "seconds"),
    [(10_000, 6), (ANSWERS_PER_CONNECTION * 32 / 6, 6), (64, 10), (0, 6 * MOST_TIMES_LONGER)],
)
def test_slow_requests_are_measured_for_longer(rate: float, seconds: int) -> None:
    assert long_enough(load(round(rate), 1.0), connections=32, seconds=6) == seconds


def test_only_what_was_spent_during_the_load_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clock = [100.0]

    def drive(url: str, _requests: Path, _connections: int, seconds: int) -> Load:
        clock[0] += 3.0
        return load(answered=0 if url == "dead" else 1500, seconds=seconds)

    monkeypatch.setattr("tests.performance.bench.load.drive", drive)
    found = measure("live", tmp_path, 8, 2, lambda: clock[0], lambda: 5)
    assert (found.cpu_seconds, found.memory_bytes) == (3.0, 5)
    assert found.cpu_ms == pytest.approx(2.0)
    with pytest.raises(NothingAnswered):
        measure("dead", tmp_path, 8, 2, lambda: clock[0], lambda: 5)
