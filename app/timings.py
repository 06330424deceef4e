"""Where the time of one request went: seconds per stage, for Server-Timing, the metrics and the log."""


class Stages:
    """Adds up seconds per stage (read, decode, queue, inference, encode), in the order first met.

    Attributes:
        rows: the most rows that the request had in one batcher.
    """

    __slots__ = ("rows", "seconds")

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.rows = 0

    def add(self, name: str, seconds: float) -> None:
        """Count `seconds` towards a stage; a stage may be met several times."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def server_timing(self) -> str:
        """The value of a Server-Timing header (W3C Server Timing), durations in milliseconds."""
        return ", ".join(f"{name};dur={seconds * 1000:.2f}" for name, seconds in self.seconds.items())
