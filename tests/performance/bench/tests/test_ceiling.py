"""What the decoder does in process, and what part of it comes through HTTP."""

from pathlib import Path

import pytest

from tests.performance.bench.ceiling import decoded_per_second, reached
from tests.performance.bench.report import Sample
from tests.tiny_model import write_tiny_model


def sample(server: str, workload: str, connections: int, round_: int, per_second: float) -> Sample:
    return Sample(server, workload, connections, round_, 1.0, per_second, 1.0, 2.0, 300.0, failed=0)


def test_at_least_one_batch_of_each_session_counts(tmp_path: Path) -> None:
    assert decoded_per_second(write_tiny_model(tmp_path / "1"), seconds=0.0) > 0


def test_requests_of_64_are_held_against_the_ceiling_of_their_round() -> None:
    samples = [
        sample("ours", "decode-64", 32, 1, 40),
        sample("ours", "decode-64", 32, 2, 10),
        sample("ours", "decode-64", 8, 1, 1),
        sample("ours", "decode-1", 32, 1, 1),
        sample("peer", "decode-64", 32, 1, 1),
    ]
    found = reached(samples, {1: 3200.0, 2: 1280.0}, "ours", 32)
    assert found is not None
    assert [found.least, found.most] == pytest.approx([0.5, 0.8])
    assert reached(samples, {1: 3200.0, 2: 1280.0}, "ours", 64) is None
