"""Errors as RFC 9457 has them."""

from typing import Any

import orjson
import pytest
from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request

from app.errors import (
    ImageTooLarge,
    InferenceFailed,
    InvalidField,
    NotReady,
    QueueFull,
    ServiceError,
    Unauthorized,
    UnsupportedBody,
)
from app.server.problem_details import STATUS, from_service_error, on_http_exception, problem

SCOPE: dict[str, Any] = {"type": "http", "method": "PUT", "headers": [], "state": {"request_id": "id-1"}}


def test_a_problem_has_the_members_of_the_standard() -> None:
    response = from_service_error(SCOPE, ImageTooLarge("too large by far"))
    assert response.status_code == 413
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert orjson.loads(response.body) == {
        "type": "urn:car-vae:problem:picture-too-large",
        "title": "Picture too large",
        "status": 413,
        "detail": "too large by far",
        "request_id": "id-1",
    }


def test_invalid_fields_are_listed() -> None:
    content = orjson.loads(from_service_error(SCOPE, InvalidField([("a", "must be b")])).body)
    assert content["errors"] == [{"place": "a", "message": "must be b"}]


@pytest.mark.parametrize("kind", [kind for kind in STATUS if kind is not InvalidField])
def test_every_error_has_its_status_and_a_type_of_its_own(kind: type[ServiceError]) -> None:
    content = orjson.loads(from_service_error(SCOPE, kind("why")).body)
    status, name, title = STATUS[kind]
    found = (content["status"], content["type"], content["title"])
    assert found == (status, f"urn:car-vae:problem:{name}", title)
    assert [other for other in STATUS if content["type"] == _type_of(other)] == [kind]


def test_types_are_those_that_clients_know() -> None:
    assert sorted(name for _, name, _ in STATUS.values()) == [
        "body-too-large",
        "damaged-code",
        "inference-failed",
        "invalid-field",
        "malformed-body",
        "not-acceptable",
        "not-offered",
        "not-ready",
        "picture-too-large",
        "queue-full",
        "queue-timeout",
        "too-many-items",
        "unauthorized",
        "unreadable-picture",
        "unsupported-body",
        "unsupported-picture",
        "wrong-model",
    ]


def _type_of(kind: type[ServiceError]) -> Any:
    error = InvalidField([]) if kind is InvalidField else kind("why")
    return orjson.loads(from_service_error(SCOPE, error).body)["type"]


def test_a_problem_says_in_headers_what_to_do_next() -> None:
    assert from_service_error(SCOPE, QueueFull("full", retry_after=3)).headers["retry-after"] == "3"
    assert int(from_service_error(SCOPE, NotReady("draining")).headers["retry-after"]) > 0
    assert from_service_error(SCOPE, Unauthorized("key")).headers["www-authenticate"].startswith("Bearer")
    packed = UnsupportedBody("packed", accept_encoding="gzip")
    assert from_service_error(SCOPE, packed).headers["accept-encoding"] == "gzip"
    assert "accept-encoding" not in from_service_error(SCOPE, UnsupportedBody("a type")).headers
    assert "retry-after" not in from_service_error(SCOPE, InferenceFailed("x")).headers


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/sample.jpeg", "/sample is there, and with .png, .jpg"),
        ("/sample.PNG", "/sample is there, and with .png, .jpg"),
        ("/sample/", "/sample is there, and with .png, .jpg"),
        ("/samples", "did you mean /sample?"),
        ("/modle", "did you mean /model?"),
        ("/model.json", "/model is there"),
        ("/", "/docs lists what there is"),
        ("/.", "/docs lists what there is"),
        ("/wp-login.php", "/docs lists what there is"),
        ("/" + "model" * 10_000, "/docs lists what there is"),
    ],
)
@pytest.mark.parametrize("root", ["", "/cars"])
async def test_an_unknown_path_is_told_what_is_there_instead(path: str, said: str, root: str) -> None:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    for known in ("/sample", "/sample.png", "/sample.jpg", "/model"):
        app.add_api_route(known, lambda: None)
    request = Request({**SCOPE, "app": app, "path": root + path, "root_path": root})
    missing = await on_http_exception(request, HTTPException(404))
    assert missing.status_code == 404
    content = orjson.loads(missing.body)
    assert content["title"] == "Not Found"
    assert content["detail"] == f"there is nothing at this path; {said}"


async def test_a_wrong_method_is_told_those_of_all_routes_of_the_path() -> None:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    router = APIRouter()
    router.add_api_route("/there", lambda: None, methods=["GET"])
    router.add_api_route("/there", lambda: None, methods=["POST"])
    router.add_api_route("/elsewhere", lambda: None, methods=["DELETE"])
    app.include_router(router)
    request = Request({**SCOPE, "app": app, "path": "/there"})
    wrong = await on_http_exception(request, HTTPException(405, headers={"Allow": "GET"}))
    assert wrong.status_code == 405
    assert wrong.headers["allow"] == "GET, POST"
    assert orjson.loads(wrong.body)["detail"] == "PUT is not allowed here"


def test_a_problem_without_a_kind_has_the_phrase_of_its_status() -> None:
    content = orjson.loads(problem(SCOPE, 500, "ours").body)
    assert content["type"] == "about:blank"
    assert content["title"] == "Internal Server Error"
