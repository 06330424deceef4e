"""Log lines: for people, or one JSON object each, on standard error. No client can forge one."""

import logging
import re
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

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
    trace = f" trace={request['trace_id']}" if "trace_id" in request else ""
    return (
        f"{request['method']} {request['path']} {request['status']} {request['outcome']}"
        f" rows={request['rows']} ms={request['ms']} {stages} id={request['request_id']}{trace}"
    )


FORMATTERS = {"text": TextFormatter, "json": JsonFormatter}


def configuration(level: str, style: Literal["text", "json"]) -> dict[str, Any]:
    """For logging.config.dictConfig: everything goes to standard error, of other libraries warnings only."""
    own = {"handlers": ["stderr"], "level": level.upper(), "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": FORMATTERS[style]}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {"app": own, "uvicorn": own},
    }
