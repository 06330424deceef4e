"""Timings: the seconds of one request by stage, which RequestLog sends as Server-Timing, logs and counts."""


class Timings:
    """Adds up seconds per stage (read, decode, queue, inference, encode), in the order first met.

    Attributes:
        rows: the most rows that the request had in one batcher.
    """

    __slots__ = ("rows", "seconds")

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.rows = 0

    def add(self, stage: str, seconds: float) -> None:
        """Count `seconds` towards a stage; a stage may be met several times."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def server_timing(self) -> str:
        """The value of a Server-Timing header (W3C Server Timing), durations in milliseconds."""
        return ", ".join(f"{stage};dur={seconds * 1000:.2f}" for stage, seconds in self.seconds.items())
