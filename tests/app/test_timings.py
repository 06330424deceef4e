"""Seconds by stage, and the header that tells them."""

from collections.abc import Sequence
from typing import Any

import pytest

from app.timings import Timings


class Told:
    """A trace that keeps what it is told of stages."""

    id = "0" * 32

    def __init__(self) -> None:
        self.stages: list[tuple[str, bool, BaseException | None]] = []

    def stage(
        self,
        name: str,
        started: float,
        ended: float,
        error: BaseException | None,
        runs: Sequence[object] = (),
    ) -> None:
        assert runs == ()
        self.stages.append((name, started <= ended, error))

    def run(self, *_: Any, **__: Any) -> object:
        raise AssertionError("no batch is run here")


def test_what_is_measured_counts_and_is_told_to_the_trace() -> None:
    trace = Told()
    timings = Timings(trace)
    with timings.measure("decode"):
        pass
    assert list(timings.seconds) == ["decode"]
    assert timings.seconds["decode"] >= 0
    assert trace.stages == [("decode", True, None)]


def test_what_fails_does_not_count_but_is_told_to_the_trace() -> None:
    trace = Told()
    timings = Timings(trace)
    error = ValueError("broken")
    with pytest.raises(ValueError, match="broken"), timings.measure("decode"):
        raise error
    assert timings.seconds == {}
    assert trace.stages == [("decode", True, error)]


def test_seconds_of_a_stage_add_up() -> None:
    timings = Timings()
    timings.add("queue", 0.25)
    timings.add("inference", 1.0)
    timings.add("queue", 0.5)
    assert timings.seconds == {"queue": 0.75, "inference": 1.0}


def test_server_timing_is_in_milliseconds_and_in_order() -> None:
    timings = Timings()
    timings.add("decode", 0.0012345)
    timings.add("inference", 2)
    assert timings.server_timing() == "decode;dur=1.23, inference;dur=2000.00"


def test_server_timing_of_nothing_is_empty() -> None:
    assert Timings().server_timing() == ""
