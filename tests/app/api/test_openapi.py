"""The document agrees with the app it describes, and keeps what it has promised."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from pydantic import SecretStr

from app.api import decoder_graphs, endpoints, health
from app.api.routing import paths
from app.api.schemas import Options
from app.main import create_app
from app.settings import Settings
from tests.app.conftest import Serve
from tests.images import file_of, photograph

PROMISED = Path(__file__).parent / "openapi-1.0.json"
"""What the document said in version 1.0, without its prose: clients are made from it."""


@pytest.fixture
def document(settings: Settings) -> dict[str, Any]:
    return create_app(settings).openapi()


@pytest.fixture
def document_with_keys(settings: Settings) -> dict[str, Any]:
    return create_app(settings.model_copy(update={"api_keys": (SecretStr("key"),)})).openapi()


def operations(of: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(path, method): content for path, item in of["paths"].items() for method, content in item.items()}


def missing(promised: Any, found: Any, place: str = "") -> list[str]:
    """Where `found` lacks something of `promised`; more than that may be there."""
    if place.endswith("/parameters") and isinstance(promised, list):
        promised, found = ({each["name"]: each for each in side} for side in (promised, found))
    if not isinstance(promised, dict) or not isinstance(found, dict):
        return [] if promised == found else [f"{place}: {found} instead of {promised}"]
    faults = []
    for name, value in promised.items():
        there = f"{place}/{name}"
        faults += missing(value, found[name], there) if name in found else [there]
    return faults


def test_what_was_promised_is_still_there(document_with_keys: dict[str, Any]) -> None:
    promised = json.loads(PROMISED.read_text())
    assert missing(promised, json.loads(json.dumps(document_with_keys))) == []


def test_missing_parts_would_be_noticed() -> None:
    assert missing({"a": {"b": 1}}, {"a": {"b": 2}}) == ["/a/b: 2 instead of 1"]
    assert missing({"a": {"b": 1}}, {"a": {}, "c": 1}) == ["/a/b"]
    assert missing({"parameters": [{"name": "x"}]}, {"parameters": []}) == ["/parameters/x"]


def test_every_route_is_described(document: dict[str, Any]) -> None:
    described = {(path, method.upper()) for path, method in operations(document)}
    routes = [*endpoints.router.routes, *decoder_graphs.router.routes, *health.router.routes]
    served = {
        (route.path, method)
        for route in routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
        if method != "HEAD"
    }
    assert described == served


def test_every_reference_leads_somewhere_and_every_schema_is_used(document_with_keys: dict[str, Any]) -> None:
    references = set(re.findall(r"#/components/schemas/(\w+)", str(document_with_keys)))
    assert references == set(document_with_keys["components"]["schemas"])
    assert "Problem" in references


def test_every_error_is_a_problem(document_with_keys: dict[str, Any]) -> None:
    for operation in operations(document_with_keys).values():
        for status, answer in operation["responses"].items():
            assert status in ("200", "304") or list(answer["content"]) == ["application/problem+json"]


def test_keys_are_asked_for_where_they_are_needed(
    document: dict[str, Any], document_with_keys: dict[str, Any]
) -> None:
    for has_keys, of in ((False, document), (True, document_with_keys)):
        for (path, _), operation in operations(of).items():
            guarded = has_keys and path in (*paths(endpoints.router), *paths(decoder_graphs.router))
            assert ("security" in operation) == guarded
            assert ("401" in operation["responses"]) == guarded


def test_operation_ids_are_names_of_functions(document: dict[str, Any]) -> None:
    names = {place: operation["operationId"] for place, operation in operations(document).items()}
    assert names["/sample", "get"] == "sample_by_query"
    assert len(set(names.values())) == len(names)
    assert all(name.isidentifier() for name in names.values())


def test_query_parameters_are_plain(document: dict[str, Any]) -> None:
    parameters = operations(document)["/sample", "get"]["parameters"]
    by_name = {parameter["name"]: parameter["schema"] for parameter in parameters}
    assert set(by_name) == {"count", "seed", "temperature", "prior", "size", "format"}
    assert by_name["size"] == {"type": "integer", "minimum": 16, "maximum": 2048}
    assert by_name["count"] == {"type": "integer", "minimum": 1, "maximum": 64, "default": 1}
    assert by_name["prior"] == {"type": "string", "enum": ["fitted", "standard"]}
    assert by_name["format"]["enum"] == ["png", "jpeg", "webp", "json"]


def test_options_describe_each_of_their_fields() -> None:
    """The descriptions are part of the error messages."""

    def kinds(model: type[Options]) -> list[type[Options]]:
        return [model, *(kind for child in model.__subclasses__() for kind in kinds(child))]

    assert [
        (kind, name)
        for kind in kinds(Options)
        for name, field in kind.model_fields.items()
        if not field.description
    ] == []


async def test_document_and_its_page_are_served(client: httpx.AsyncClient, document: dict[str, Any]) -> None:
    assert (await client.get("/openapi.json")).json() == document
    assert "openapi.json" in (await client.get("/docs")).text


@pytest.mark.parametrize("path", ["/encode", "/decode", "/reconstruct", "/sample", "/interpolate"])
async def test_json_answers_have_the_described_fields(
    client: httpx.AsyncClient, document: dict[str, Any], path: str
) -> None:
    files = [("image", file_of(photograph(seed=seed))) for seed in range(2)]
    latents = (await client.post("/encode", files=files)).json()
    body: dict[str, Any] = (
        {"json": latents}
        if path == "/decode"
        else {"json": {"count": 2}}
        if path == "/sample"
        else {"files": files}
    )
    answer = (await client.post(f"{path}?format=json", **body)).json()
    content = document["paths"][path]["post"]["responses"]["200"]["content"]
    reference = content["application/json"]["schema"]["$ref"]
    schema = document["components"]["schemas"][reference.rsplit("/")[-1]]
    assert set(answer) == set(schema["properties"])


async def test_keys_of_the_served_document(serve: Serve) -> None:
    async with serve(api_keys="key") as client:
        assert "securitySchemes" in (await client.get("/openapi.json")).json()["components"]
