"""Log lines: their shape, and that clients cannot forge them."""

import io
import json
import logging
import logging.config
from typing import Any

import pytest

from app.server.logging_setup import MOST_LINES, BundlingHandler, JsonFormatter, TextFormatter, configuration

LOGGER = "app.server.middleware"

REQUEST = {
    "request_id": "abc",
    "method": "POST",
    "path": "/encode",
    "status": 200,
    "outcome": "ok",
    "rows": 3,
    "ms": 12.5,
    "stages": {"read": 0.25, "decode": 1.5},
}


def record(message: str, *arguments: object, **more: Any) -> logging.LogRecord:
    made = logging.LogRecord(LOGGER, logging.INFO, __file__, 1, message, arguments, None)
    made.__dict__.update(more)
    return made


def test_request_for_people() -> None:
    line = TextFormatter().format(record("request", request=REQUEST))
    assert line.endswith("INFO POST /encode 200 ok rows=3 ms=12.5 read=0.25 decode=1.5 id=abc")


def test_request_as_json() -> None:
    content = json.loads(JsonFormatter().format(record("request", request=REQUEST)))
    assert content.items() >= REQUEST.items()
    assert (content["level"], content["logger"], content["message"]) == (
        "info",
        "app.server.middleware",
        "request",
    )
    assert content["time"].endswith("+00:00")


@pytest.mark.parametrize("text", ["a\nERROR forged", "a\r\x1b[2Jb", "a\u2028b", "a\x85b\x00"])
def test_nothing_can_be_forged(text: str) -> None:
    line = TextFormatter().format(record("%s", text))
    assert all(character.isprintable() or character == "\n" for character in line)
    assert all(part.startswith("    ") for part in line.split("\n")[1:])
    assert json.loads(JsonFormatter().format(record("%s", text)))["message"] == text
    assert "\n" not in JsonFormatter().format(record("%s", text))


def test_exceptions_are_kept() -> None:
    try:
        raise ValueError("why\nERROR forged")
    except ValueError as error:
        made = record("failed", exc_info=(type(error), error, error.__traceback__))
    assert "why" in json.loads(JsonFormatter().format(made))["exception"]
    assert "\nERROR" not in TextFormatter().format(made)


def test_requests_are_written_in_bundles_and_everything_in_order() -> None:
    handler = BundlingHandler()
    handler.setStream(file := io.StringIO())
    handler.emit(record("one", request=REQUEST))
    assert file.getvalue() == ""
    handler.emit(record("two"))
    assert file.getvalue() == "one\ntwo\n"
    for _ in range(MOST_LINES + 1):
        handler.emit(record("more", request=REQUEST))
    assert file.getvalue().count("more") == MOST_LINES + 1
    handler.emit(record("last", request=REQUEST))
    handler.flush()
    assert file.getvalue().endswith("more\nlast\n")


@pytest.mark.parametrize("style", ["text", "json"])
def test_configuration_is_one_that_logging_takes(style: Any, capsys: pytest.CaptureFixture[str]) -> None:
    kept = logging.getLogger("app").handlers, logging.getLogger().handlers[:]
    try:
        logging.config.dictConfig(configuration("info", style))
        logging.getLogger("app.server.middleware").info("hello")
        logging.getLogger("app.server.middleware").debug("silence")
        logging.getLogger("other").info("silence")
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert "hello" in told
    finally:
        logging.getLogger("app").handlers, logging.getLogger().handlers[:] = [], kept[1]
        logging.getLogger("app").propagate = True
        logging.getLogger("uvicorn").propagate = True
