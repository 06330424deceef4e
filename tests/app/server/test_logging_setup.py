"""Log lines: their shape, and that clients cannot forge them."""

import json
import logging
import logging.config
from collections.abc import Iterator
from typing import Any

import pytest

from app.server.logging_setup import JsonFormatter, TextFormatter, configuration

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


def test_a_request_is_one_line_for_people() -> None:
    line = TextFormatter().format(record("request", request=REQUEST))
    assert line.endswith("INFO POST /encode 200 ok rows=3 ms=12.5 read=0.25 decode=1.5 id=abc")


def test_a_request_is_one_json_object() -> None:
    content = json.loads(JsonFormatter().format(record("request", request=REQUEST)))
    assert content.items() >= REQUEST.items()
    assert (content["level"], content["logger"], content["message"]) == (
        "info",
        "app.server.middleware",
        "request",
    )
    assert content["time"].endswith("+00:00")


@pytest.mark.parametrize("text", ["a\nERROR forged", "a\r\x1b[2Jb", "a\u2028b", "a\x85b\x00"])
def test_no_record_can_be_forged_by_a_message(text: str) -> None:
    line = TextFormatter().format(record("%s", text))
    assert all(character.isprintable() or character == "\n" for character in line)
    assert all(part.startswith("    ") for part in line.split("\n")[1:])
    assert json.loads(JsonFormatter().format(record("%s", text)))["message"] == text
    assert "\n" not in JsonFormatter().format(record("%s", text))


def test_exceptions_keep_their_traceback_and_forge_nothing() -> None:
    try:
        raise ValueError("why\nERROR forged")
    except ValueError as error:
        made = record("failed", exc_info=(type(error), error, error.__traceback__))
    assert "why" in json.loads(JsonFormatter().format(made))["exception"]
    assert "\nERROR" not in TextFormatter().format(made)


@pytest.fixture
def logging_restored() -> Iterator[None]:
    kept = logging.getLogger().handlers[:]
    yield
    logging.getLogger("app").handlers, logging.getLogger().handlers[:] = [], kept
    logging.getLogger("app").propagate = True
    logging.getLogger("uvicorn").propagate = True


@pytest.mark.usefixtures("logging_restored")
@pytest.mark.parametrize("style", ["text", "json"])
def test_own_lines_go_to_standard_error_and_those_of_others_only_as_warnings(
    style: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.config.dictConfig(configuration("info", style))
    logging.getLogger(LOGGER).info("hello")
    logging.getLogger(LOGGER).debug("silence")
    logging.getLogger("other").info("silence")
    written = capsys.readouterr().err
    assert written.count("\n") == 1
    assert "hello" in written


@pytest.mark.usefixtures("logging_restored")
def test_each_line_is_written_at_once_and_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    logging.config.dictConfig(configuration("info", "json"))
    for number in range(3):
        logging.getLogger(LOGGER).info("request", extra={"request": REQUEST | {"rows": number}})
        assert json.loads(capsys.readouterr().err)["rows"] == number
