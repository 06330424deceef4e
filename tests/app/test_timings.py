"""Seconds by stage, and the header that tells them."""

from app.timings import Timings


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
