"""How log records become lines: for people, or as one JSON object each. No client can forge one."""

import logging
import re
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import orjson

MOST_LINES = 200
"""Lines of requests that are kept until they are written."""

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def _when(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


class TextFormatter(logging.Formatter):
    """`time LEVEL message`; what follows a line break is indented and so looks like no other record."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as text."""
        request: dict[str, Any] | None = getattr(record, "request", None)
        if request is not None:  # there is nothing in it that a client has written
            return f"{_when(record)} {record.levelname} {_request_line(request)}"
        text = super().format(record)
        safe = CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text).replace("\n", "\n    ")
        return f"{_when(record)} {record.levelname} {safe}"


class JsonFormatter(logging.Formatter):
    """An object with time, level, logger and message; of a request also what the middleware tells."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as JSON."""
        content: dict[str, Any] = {
            "time": _when(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        content |= getattr(record, "request", {})
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS, default=str).decode()


def _request_line(request: dict[str, Any]) -> str:
    stages = " ".join(f"{name}={milliseconds}" for name, milliseconds in request["stages"].items())
    return (
        f"{request['method']} {request['path']} {request['status']} {request['outcome']}"
        f" rows={request['rows']} ms={request['ms']} {stages} id={request['request_id']}"
    )


class BundlingHandler(logging.StreamHandler[TextIO]):
    """Writes the lines of requests many at a time: a system call for each, in which other threads take the
    interpreter, costs more than the line. Anything else is written at once, with all lines before it."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line of a request, until `flush`; write any other."""
        if hasattr(record, "request") and len(self._lines) < MOST_LINES:
            try:
                self._lines.append(self.format(record))
            except Exception:
                self.handleError(record)
            return
        self.flush()
        super().emit(record)

    def flush(self) -> None:
        """Write what is kept."""
        self.acquire()
        try:
            lines, self._lines = self._lines, []
            if lines:
                self.stream.write("".join(f"{line}{self.terminator}" for line in lines))
        finally:
            self.release()
        super().flush()


def flush() -> None:
    """Write what is kept of the log; to be called now and then."""
    for handler in logging.getLogger("app").handlers:
        handler.flush()


FORMATTERS = {"text": TextFormatter, "json": JsonFormatter}


def configuration(level: str, style: Literal["text", "json"]) -> dict[str, Any]:
    """For logging.config.dictConfig: everything goes to standard error, of other libraries warnings only."""
    own = {"handlers": ["stderr"], "level": level.upper(), "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": FORMATTERS[style]}},
        "handlers": {"stderr": {"()": BundlingHandler, "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {"app": own, "uvicorn": own},
    }
