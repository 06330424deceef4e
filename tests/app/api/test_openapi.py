"""The document agrees with the app it describes."""

import re
from typing import Any

import httpx
import pytest

from app.api import health, openapi
from app.api.endpoints import ROUTES
from app.api.openapi import document
from app.api.schemas import Options
from tests.app.conftest import Serve
from tests.images import file_of, photograph


def operations(of: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(path, method): content for path, item in of["paths"].items() for method, content in item.items()}


def test_every_route_is_described() -> None:
    described = {(path, method.upper()) for path, method in operations(document("1", False))}
    served = {
        (route.path, method)
        for route in (*ROUTES, *health.ROUTES)
        for method in route.methods or ()
        if method != "HEAD"
    }
    assert described == served


def test_every_reference_leads_somewhere() -> None:
    whole = document("1", True)
    references = set(re.findall(r"#/components/schemas/(\w+)", str(whole)))
    assert references <= set(whole["components"]["schemas"])
    assert "Problem" in references


def test_every_error_is_a_problem() -> None:
    for operation in operations(document("1", True)).values():
        for status, answer in operation["responses"].items():
            assert (status == "200") or list(answer["content"]) == ["application/problem+json"]


def test_keys_are_asked_for_where_they_are_needed() -> None:
    for has_keys in (False, True):
        for (path, _), operation in operations(document("1", has_keys)).items():
            guarded = has_keys and path in {route.path for route in ROUTES}
            assert ("security" in operation) == guarded
            assert ("401" in operation["responses"]) == guarded


def test_query_parameters_are_plain() -> None:
    parameters = operations(document("1", False))["/sample", "get"]["parameters"]
    by_name = {parameter["name"]: parameter["schema"] for parameter in parameters}
    assert list(by_name) == ["count", "seed", "temperature", "prior", "size", "format"]
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


async def test_document_and_its_page_are_served(client: httpx.AsyncClient) -> None:
    assert (await client.get("/openapi.json")).json()["openapi"] == "3.1.0"
    assert "openapi.json" in (await client.get("/docs")).text


@pytest.mark.parametrize("path", ["/encode", "/decode", "/reconstruct", "/sample", "/interpolate"])
async def test_json_answers_have_the_described_fields(client: httpx.AsyncClient, path: str) -> None:
    whole = document("1", False)
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
    reference = whole["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]["schema"][
        "$ref"
    ]
    schema = whole["components"]["schemas"][reference.rsplit("/")[-1]]
    assert set(answer) == set(schema["properties"])


async def test_keys_of_the_served_document(serve: Serve) -> None:
    async with serve(api_keys="key") as client:
        assert "securitySchemes" in (await client.get("/openapi.json")).json()["components"]


def test_components_are_all_used() -> None:
    whole = document("1", True)
    assert {model.__name__ for model in openapi.COMPONENTS} <= set(re.findall(r"schemas/(\w+)", str(whole)))
