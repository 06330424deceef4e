"""The document agrees with the app it describes, and keeps what it has promised."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from pydantic import SecretStr

from app.api.endpoints import car_pictures, compress, decoder_graphs, health, model, preview
from app.api.routing import paths
from app.api.schemas import Options
from app.main import create_app
from app.settings import Settings
from tests.app.conftest import Serve
from tests.images import file_of, photograph

GUARDED = model.router, compress.router, car_pictures.router, preview.router, decoder_graphs.router
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


def missing(promised: Any, found: Any, place: str = "", schemas: Any = None) -> list[str]:
    """Where `found` lacks something of `promised`; more than that may be there: further formats, for one, and
    a name, among `schemas`, for what stood where it was used."""
    if place.endswith("/parameters") and isinstance(promised, list):
        promised, found = ({each["name"]: each for each in side} for side in (promised, found))
    if place.endswith("/enum"):
        return [f"{place}: {name}" for name in promised if name not in found]
    if place.endswith("/images/items/pattern"):  # PNG unless others are asked for
        return [] if re.match(found, "data:image/png;base64,") else [place]
    if place.endswith("Answer/required"):  # the images are there unless they are asked to be left out
        return [f"{place}: {name}" for name in promised if name not in (*found, "images")]
    if not isinstance(promised, dict) or not isinstance(found, dict):
        return [] if promised == found else [f"{place}: {found} instead of {promised}"]
    if "$ref" in found and "$ref" not in promised:
        found = schemas[found["$ref"].rpartition("/")[2]] | found
    faults = []
    for name, value in promised.items():
        there = f"{place}/{name}"
        if (name, value) == ("required", ["latents"]) and place.endswith("Body"):
            continue  # codes may stand in their place
        faults += missing(value, found[name], there, schemas) if name in found else [there]
    return faults


def read_promise() -> dict[str, Any]:
    """The promise but for what it said of null: as a default it says nothing, and no form can have it."""
    promise: dict[str, Any] = json.loads(
        PROMISED.read_text(), object_pairs_hook=lambda pairs: dict(p for p in pairs if p != ("default", None))
    )
    for name, schema in promise["components"]["schemas"].items():
        for field in schema["properties"].values() if name.endswith("Form") else ():
            field |= field.pop("anyOf", [{}])[0]
    return promise


def test_what_was_promised_is_still_there(document_with_keys: dict[str, Any]) -> None:
    found = json.loads(json.dumps(document_with_keys))
    assert missing(read_promise(), found, schemas=found["components"]["schemas"]) == []


def test_missing_parts_would_be_noticed() -> None:
    assert missing({"a": {"b": 1}}, {"a": {"b": 2}}) == ["/a/b: 2 instead of 1"]
    assert missing({"a": {"b": 1}}, {"a": {}, "c": 1}) == ["/a/b"]
    assert missing({"parameters": [{"name": "x"}]}, {"parameters": []}) == ["/parameters/x"]
    assert missing({"enum": ["a", "b"]}, {"enum": ["b", "c"]}) == ["/enum: a"]
    answer = {"DecodeAnswer": {"required": ["model", "images"]}}
    assert missing(answer, {"DecodeAnswer": {"required": ["model"]}}) == []
    assert missing(answer, {"DecodeAnswer": {"required": ["images"]}}) == ["/DecodeAnswer/required: model"]
    pattern = {"images": {"items": {"pattern": "^data:image/png;"}}}
    assert missing(pattern, {"images": {"items": {"pattern": "^data:image/(png|webp);"}}}) == []
    assert missing(pattern, {"images": {"items": {"pattern": "^data:image/webp;"}}}) != []
    assert missing({"a": {"b": 1}}, {"a": {"$ref": "#/X"}}, schemas={"X": {"b": 2}}) == [
        "/a/b: 2 instead of 1"
    ]


def test_every_route_is_described(document: dict[str, Any]) -> None:
    described = {(path, method.upper()) for path, method in operations(document)}
    assert ("/interpolate.gif", "POST") in described
    routes = [route for each in (*GUARDED, health.router) for route in each.routes]
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
            guarded = has_keys and any(path in paths(router) for router in GUARDED)
            assert ("security" in operation) == guarded
            assert ("401" in operation["responses"]) == guarded


def test_operation_ids_are_names_of_functions(document: dict[str, Any]) -> None:
    names = {place: operation["operationId"] for place, operation in operations(document).items()}
    assert names["/sample", "get"] == "sample_by_query"
    assert len(set(names.values())) == len(names)
    assert all(name.isidentifier() for name in names.values())


def test_a_path_with_a_suffix_has_one_media_type(document: dict[str, Any]) -> None:
    """Generators of clients take one, of bodies too; and the suffix is part of a function's name."""
    media_types = {
        ("/encode.json", "post"): ("encode_json", "multipart/form-data", "application/json"),
        ("/decode.png", "post"): ("decode_png", "application/json", "image/png"),
        ("/reconstruct.jpg", "post"): ("reconstruct_jpg", "multipart/form-data", "image/jpeg"),
        ("/sample.webp", "post"): ("sample_webp", "application/json", "image/webp"),
        ("/sample.webp", "get"): ("sample_by_query_webp", None, "image/webp"),
        ("/interpolate.gif", "post"): ("interpolate_gif", "application/json", "image/gif"),
        ("/c/{code}.jpg", "get"): ("car_jpg", None, "image/jpeg"),
    }
    suffixed = {place: each for place, each in operations(document).items() if "." in place[0]}
    assert set(media_types) <= set(suffixed)
    for place, operation in suffixed.items():
        bodies = [*operation.get("requestBody", {"content": {None: None}})["content"]]
        answers = [*operation["responses"]["200"]["content"]]
        assert (len(bodies), len(answers)) == (1, 1)
        found = (operation["operationId"], bodies[0], answers[0])
        assert media_types.get(place, found) == found
        assert "format" not in {parameter["name"] for parameter in operation["parameters"]}
        assert "406" not in operation["responses"]


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/interpolate", {"size", "images", "animate", "steps", "lambdas", "method", "format"}),
        ("/interpolate.png", {"size", "steps", "lambdas", "method"}),
        ("/interpolate.avif", {"size", "animate", "steps", "lambdas", "method"}),
        ("/interpolate.gif", {"size", "steps", "lambdas", "method"}),
        ("/interpolate.json", {"size", "images", "steps", "lambdas", "method"}),
        ("/interpolate.npy", {"steps", "lambdas", "method"}),
    ],
)
def test_a_path_with_a_suffix_has_the_options_of_its_format(
    document: dict[str, Any], path: str, named: set[str]
) -> None:
    parameters = operations(document)[path, "post"]["parameters"]
    assert {parameter["name"] for parameter in parameters} == named


def test_nothing_is_null_unless_it_is_given(document: dict[str, Any]) -> None:
    assert '"default": null' not in json.dumps(document)
    forms = [schema for name, schema in document["components"]["schemas"].items() if name.endswith("Form")]
    assert len(forms) == 2
    assert '"null"' not in json.dumps(forms)


def test_the_document_says_where_it_is_and_what_its_parts_are(document: dict[str, Any]) -> None:
    assert document["servers"] == [{"url": "."}]
    described = {tag["name"] for tag in document["tags"]}
    assert {tag for operation in operations(document).values() for tag in operation["tags"]} == described
    assert document["security"] == []


async def test_lengths_and_limits_are_stated(serve: Serve) -> None:
    async with serve(max_items=9, max_output_pixels=123_456) as client:
        dim = (await client.get("/model")).json()["latent_dim"]
        document = (await client.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    assert schemas["Latent"]["minItems"] == dim
    assert schemas["Latent"]["items"] == {"type": "number", "minimum": -1e6, "maximum": 1e6}
    latents = schemas["LatentsBody"]["properties"]["latents"]
    assert latents["items"] == {"$ref": "#/components/schemas/Latent", "maxItems": dim}
    assert (latents["minItems"], latents["maxItems"]) == (1, 9)
    waypoints = schemas["PathBody"]["properties"]["latents"]
    assert waypoints["items"] == latents["items"]
    assert (waypoints["minItems"], waypoints["maxItems"]) == (2, 16)
    images = schemas["PicturesForm"]["properties"]["image"]
    assert (images["minItems"], images["maxItems"]) == (1, 9)
    sizes = [
        parameter["description"]
        for operation in operations(document).values()
        for parameter in operation.get("parameters", ())
        if parameter["name"] == "size"
    ]
    assert len(sizes) > 5
    assert all("123456 pixels together at most" in each for each in sizes)


def test_before_there_is_a_model_lengths_are_left_out(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert "minItems" not in schemas["Latent"]
    assert "latent_dim" not in json.dumps([schemas["PathBody"]["properties"]["latents"]["items"]])


def test_query_parameters_are_plain(document: dict[str, Any]) -> None:
    parameters = operations(document)["/sample", "get"]["parameters"]
    by_name = {parameter["name"]: parameter["schema"] for parameter in parameters}
    assert set(by_name) == {"count", "seed", "temperature", "prior", "size", "images", "format"}
    assert by_name["size"] == {"type": "integer", "minimum": 16, "maximum": 2048}
    assert by_name["count"] == {"type": "integer", "minimum": 1, "maximum": 64, "default": 1}
    assert by_name["prior"] == {"type": "string", "enum": ["fitted", "standard"]}
    assert by_name["format"]["enum"] == ["png", "jpeg", "webp", "avif", "json", "npy"]


def test_what_may_stand_in_the_body_has_no_default_in_the_query(document: dict[str, Any]) -> None:
    """Some clients send defaults, which would contradict the body."""
    for path, name in (("/sample", "count"), ("/interpolate.json", "method")):
        parameters = operations(document)[path, "post"]["parameters"]
        (schema,) = (parameter["schema"] for parameter in parameters if parameter["name"] == name)
        assert "default" not in schema
    assert document["components"]["schemas"]["SampleOptions"]["properties"]["count"]["default"] == 1


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
    served = (await client.get("/openapi.json")).json()
    assert served["paths"] == document["paths"]
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
