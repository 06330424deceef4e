from app.timings import Stages


def test_seconds_of_a_stage_add_up() -> None:
    stages = Stages()
    stages.add("queue", 0.25)
    stages.add("inference", 1.0)
    stages.add("queue", 0.5)
    assert stages.seconds == {"queue": 0.75, "inference": 1.0}


def test_server_timing_is_in_milliseconds_and_in_order() -> None:
    stages = Stages()
    stages.add("decode", 0.0012345)
    stages.add("inference", 2)
    assert stages.server_timing() == "decode;dur=1.23, inference;dur=2000.00"


def test_server_timing_of_nothing_is_empty() -> None:
    assert Stages().server_timing() == ""
