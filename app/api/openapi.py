"""OpenAPI: what FastAPI cannot say by itself of bodies and answers in several formats, and of problems."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.api import schemas, service_schemas
from app.api.content_negotiation import REPRESENTATIONS, Format, format_of, offered_formats, path_with
from app.server.problem_details import MEDIA_TYPE as PROBLEM_TYPE

Document = dict[str, Any]
Responses = dict[int | str, Document]

REF = "#/components/schemas/{model}"
FILE = {"schema": {"type": "string", "format": "binary"}}

QUEUE_ERRORS = (429, 500, 503, 504)
BODY_ERRORS = (400, 413, 415, 422)
EVERY_HEADER = ("X-Request-ID", "Server-Timing")
HEADERS = {
    "X-Request-ID": "The client's own id where it sent a sane one, else a new one.",
    "Server-Timing": "Milliseconds spent in each stage.",
    "X-Model": "Id of the model; with images and npy only.",
    "X-Seed": "The seed that repeats the answer.",
    "ETag": "Stands for the answer, where it may be kept.",
    "Cache-Control": "Whether and how long the answer may be kept.",
    "Retry-After": "Seconds.",
    "Accept-Encoding": "The encodings of bodies that are read, where it is the encoding.",
}
OF_STATUS = {415: ("Accept-Encoding",), 429: ("Retry-After",), 503: ("Retry-After",)}
"""Headers of errors by their status."""

ONLY_IN: dict[str, tuple[Format, ...]] = {
    "images": ("json",),
    "animate": ("webp", "avif"),
    "size": ("png", "jpeg", "webp", "avif", "gif", "json"),
}
"""Options that mean something in some formats only, and these."""
TAGS = [
    {
        "name": "model",
        "description": "Images to latents and back. Endpoints answer in several formats: a suffix of their "
        "paths names one, or `?format=` or `Accept` where there is none.",
    },
    {"name": "service", "description": "The service itself."},
]
SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def answers(
    model: type[BaseModel] | None, query: type[schemas.Options] | None = None, *headers: str
) -> Responses:
    """The response 200: `model` as JSON, and files in the other formats that `query` offers."""
    formats: tuple[Format, ...] = ("json",) if query is None else offered_formats(query)
    content = {
        REPRESENTATIONS[name].media_type: _schema(model) if name == "json" and model else FILE
        for name in formats
    }
    return {200: {"description": "OK", "headers": _headers(*headers), "content": content}}


def kept(responses: Responses) -> Responses:
    """The responses of an endpoint by GET, of which clients may keep those that are always the same."""
    fine = responses[200] | {"headers": responses[200]["headers"] | _headers("ETag", "Cache-Control")}
    unchanged = {"description": HTTPStatus.NOT_MODIFIED.phrase, "headers": _headers("ETag", "Cache-Control")}
    return responses | {200: fine, 304: unchanged}


def text_answer() -> Responses:
    """The response 200 of plain text."""
    content = {"text/plain": {"schema": {"type": "string"}}}
    return {200: {"description": "OK", "headers": _headers(), "content": content}}


def file_answer(media_type: str, *headers: str) -> Responses:
    """The response 200 of a file."""
    return {200: {"description": "OK", "headers": _headers(*headers), "content": {media_type: FILE}}}


def path_text(name: str, description: str) -> Document:
    """A text in the path of an endpoint that reads it itself."""
    schema = {"type": "string"}
    place = {"name": name, "in": "path", "required": True, "description": description, "schema": schema}
    return {"parameters": [place]}


def parameters(query: type[BaseModel]) -> Document:
    """The query of an endpoint that reads it itself."""
    schema = query.model_json_schema()["properties"]
    return {
        "parameters": [
            {"name": name, "in": "query", "required": False, "description": of["description"], "schema": of}
            for name, of in schema.items()
        ]
    }


def problems(*statuses: int) -> Responses:
    """The responses of errors, each a problem document."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "headers": _headers(*OF_STATUS.get(status, ())),
            "content": {PROBLEM_TYPE: _schema(schemas.Problem)},
        }
        for status in sorted(statuses)
    }


def image_bodies(form: type[BaseModel]) -> Document:
    """The body of an endpoint that takes images: a form, or one raw file."""
    content = {"multipart/form-data": _schema(form), "image/*": FILE, "application/octet-stream": FILE}
    return {"requestBody": {"required": True, "content": content}}


def json_body(
    model: type[BaseModel], *, form: type[BaseModel] | None = None, required: bool = True
) -> Document:
    """The body of an endpoint that takes JSON; or a form, or latents as an npy file, instead."""
    content = {"application/json": _schema(model)}
    if issubclass(model, schemas.LatentsBody):
        content[REPRESENTATIONS["npy"].media_type] = FILE
    if form is not None:
        content["multipart/form-data"] = _schema(form)
    return {"requestBody": {"required": required, "content": content}}


@dataclass(frozen=True, slots=True)
class Limits:
    """What the document says in numbers and only a running service knows.

    Attributes:
        latent_dim: None as long as the model is not loaded.
        max_output_pixels: of all images of an answer together.
    """

    latent_dim: int | None
    max_items: int
    max_output_pixels: int

    @property
    def lengths(self) -> dict[str, int | None]:
        """Those by whose names app.api.schemas gives the lengths of lists."""
        return {"latent_dim": self.latent_dim, "max_items": self.max_items}


def document(app: FastAPI, protected: frozenset[str], limits: Limits) -> Document:
    """The whole document, from the routes of an app; on `protected` paths an API key is asked for."""
    described = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        tags=TAGS,
        servers=[{"url": "."}],  # where the document is, whatever path a proxy puts before it
        license_info={"name": "MIT", "identifier": "MIT"},
    )
    described["security"] = []
    paths: Document = {}
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            in_body = _fields_of_bodies(operation)
            for parameter in operation.get("parameters", ()):
                _describe_parameter(parameter, limits)
                if parameter["name"] in in_body:  # else clients send it, whatever their body says
                    parameter["schema"].pop("default", None)
            if path in protected:
                operation["security"] = [{"bearer": []}, {"key": []}]
                operation["responses"] |= {str(status): said for status, said in problems(401).items()}
            for suffixed, one in _in_each_format(path, operation):
                paths.setdefault(suffixed, {})[method] = one
    described["paths"] |= paths
    described["components"] = {"schemas": _referred_schemas(described, limits)}
    if protected:
        described["components"]["securitySchemes"] = SECURITY_SCHEMES
    return described


def _in_each_format(path: str, operation: Document) -> Iterator[tuple[str, Document]]:
    """The paths with a suffix beside one that negotiates, and their operations: of one media type each, as
    generators of clients take them; of the bodies that are read it is the first."""
    parameters = [each for each in operation.get("parameters", ()) if each["name"] != "format"]
    if parameters == operation.get("parameters", []):
        return
    if format_of(path) is not None:  # it names one itself
        operation["parameters"] = parameters
        return
    answer = operation["responses"]["200"]
    body = operation.get("requestBody")
    for name, representation in REPRESENTATIONS.items():
        media_type = representation.media_type
        if media_type not in answer["content"]:
            continue
        one = {
            **operation,
            "operationId": f"{operation['operationId']}_{representation.suffix}",
            "summary": f"{operation['summary']}, as {representation.suffix}",
            "parameters": [each for each in parameters if name in ONLY_IN.get(each["name"], (name,))],
            "responses": {status: said for status, said in operation["responses"].items() if status != "406"}
            | {"200": answer | {"content": {media_type: answer["content"][media_type]}}},
        }
        if body is not None:
            first = dict(islice(body["content"].items(), 1))
            one["requestBody"] = body | {"content": first}
        yield path_with(path, name), one


def _fields_of_bodies(operation: Document) -> set[str]:
    """The fields of all bodies of an operation."""
    content = operation.get("requestBody", {}).get("content", {})
    references = {each["schema"].get("$ref", "").rpartition("/")[2] for each in content.values()} - {""}
    return {field for name in references for field in _schema_named(name).model_fields}


def _schema_named(name: str) -> type[BaseModel]:
    module = schemas if hasattr(schemas, name) else service_schemas
    found: type[BaseModel] = getattr(module, name)
    return found


def _describe_parameter(parameter: Document, limits: Limits) -> None:
    """Bring a parameter to what a query can say, and to what this service allows."""
    _plain(parameter["schema"])
    _fill_in(parameter["schema"], limits.lengths)
    parameter["schema"].pop("description", None)  # stands with the parameter
    if parameter["name"] == "size":
        parameter["description"] += (
            f"; all pictures of an answer have {limits.max_output_pixels} pixels together at most"
        )


def _plain(schema: Document) -> None:
    """Bring the schema of a text to what it can say: null, for one, it cannot."""
    schema.pop("title", None)
    kinds = [kind for kind in schema.pop("anyOf", ()) if kind != {"type": "null"}]
    schema.update(kinds[0] if kinds else {})
    if "const" in schema:
        schema["enum"] = [schema.pop("const")]
    if schema.get("default", ...) is None:
        del schema["default"]


def _referred_schemas(described: Document, limits: Limits) -> Document:
    """The models of both modules of schemas that the operations refer to."""
    names = sorted(set(re.findall(REF.format(model=r"(\w+)"), str(described["paths"]))))
    models: list[tuple[type[BaseModel], Literal["validation"]]] = [
        (_schema_named(name), "validation") for name in names
    ]
    definitions: Document = models_json_schema(models, ref_template=REF)[1]["$defs"]
    for name in names:
        if name.endswith("Form"):
            for field in definitions[name]["properties"].values():
                _plain(field)
    _fill_in(definitions, limits.lengths)
    return definitions


def _fill_in(schema: Any, numbers: dict[str, int | None]) -> None:
    """Put numbers where app.api.schemas has their names, and leave out the default null: it says nothing, and
    some generators of clients take what has a default for required."""
    if isinstance(schema, list):
        for each in schema:
            _fill_in(each, numbers)
    if not isinstance(schema, dict):
        return
    if "default" in schema and schema["default"] is None:
        del schema["default"]
    for key in ("minItems", "maxItems"):
        if isinstance(schema.get(key), str):
            number = numbers[schema.pop(key)]
            schema.update({} if number is None else {key: number})
    for value in schema.values():
        _fill_in(value, numbers)


def _schema(model: type[BaseModel]) -> Document:
    return {"schema": {"$ref": REF.format(model=model.__name__)}}


def _headers(*more: str) -> Document:
    return {
        name: {"description": HEADERS[name], "schema": {"type": "string"}} for name in (*EVERY_HEADER, *more)
    }
