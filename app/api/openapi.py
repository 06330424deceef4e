"""OpenAPI: what FastAPI cannot say by itself of bodies and answers in several formats, and of problems."""

import re
from http import HTTPStatus
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.api import schemas
from app.api.content_negotiation import MEDIA_TYPES, offered_formats
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
    "X-Model": "Id of the model; with images only.",
    "X-Seed": "The seed that repeats the answer.",
    "Retry-After": "Seconds.",
    "Accept-Encoding": "The encodings of bodies that are read, where it is the encoding.",
}
OF_STATUS = {415: ("Accept-Encoding",), 429: ("Retry-After",), 503: ("Retry-After",)}
"""Headers of errors by their status."""

SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def answers(model: type[BaseModel], query: type[schemas.Options] | None = None, *headers: str) -> Responses:
    """The response 200: `model` as JSON, and files in the other formats that `query` offers."""
    formats = ("json",) if query is None else offered_formats(query)
    content = {MEDIA_TYPES[name]: _schema(model) if name == "json" else FILE for name in formats}
    return {200: {"description": "OK", "headers": _headers(*headers), "content": content}}


def text_answer() -> Responses:
    """The response 200 of plain text."""
    content = {"text/plain": {"schema": {"type": "string"}}}
    return {200: {"description": "OK", "headers": _headers(), "content": content}}


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
    """The body of an endpoint that takes JSON, or a form instead."""
    content = {"application/json": _schema(model)}
    if form is not None:
        content["multipart/form-data"] = _schema(form)
    return {"requestBody": {"required": required, "content": content}}


def document(app: FastAPI, protected: frozenset[str]) -> Document:
    """The whole document, from the routes of an app; on `protected` paths an API key is asked for."""
    described = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        servers=[{"url": "."}],  # where the document is, whatever path a proxy puts before it
    )
    for path, operations in described["paths"].items():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                _plain(parameter["schema"])
            if path in protected:
                operation["security"] = [{"bearer": []}, {"key": []}]
                operation["responses"] |= {str(status): said for status, said in problems(401).items()}
    described["components"] = {"schemas": _referred_schemas(described)}
    if protected:
        described["components"]["securitySchemes"] = SECURITY_SCHEMES
    return described


def _plain(schema: Document) -> None:
    """Bring the schema of a parameter to what a query can say: null, for one, it cannot."""
    schema.pop("title", None)
    schema.pop("description", None)  # stands with the parameter
    kinds = [kind for kind in schema.pop("anyOf", ()) if kind != {"type": "null"}]
    schema.update(kinds[0] if kinds else {})
    if "const" in schema:
        schema["enum"] = [schema.pop("const")]
    if schema.get("default", ...) is None:
        del schema["default"]


def _referred_schemas(described: Document) -> Document:
    """The models of app.api.schemas that the operations refer to."""
    names = sorted(set(re.findall(REF.format(model=r"(\w+)"), str(described["paths"]))))
    models: list[tuple[type[BaseModel], Literal["validation"]]] = [
        (getattr(schemas, name), "validation") for name in names
    ]
    definitions: Document = models_json_schema(models, ref_template=REF)[1]["$defs"]
    return definitions


def _schema(model: type[BaseModel]) -> Document:
    return {"schema": {"$ref": REF.format(model=model.__name__)}}


def _headers(*more: str) -> Document:
    return {
        name: {"description": HEADERS[name], "schema": {"type": "string"}} for name in (*EVERY_HEADER, *more)
    }
