"""The OpenAPI document. Handlers read bodies by their content type and answer in the format that was asked
for, so what they take and give is described here and not derived from their signatures."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.api.content_negotiation import ANIMATIONS, JSON, MEDIA_TYPES, PICTURES, Format
from app.api.schemas import (
    DecodeAnswer,
    EncodeAnswer,
    EncodeOptions,
    HealthAnswer,
    LatentsBody,
    ModelAnswer,
    Options,
    PathAnswer,
    PathBody,
    PathForm,
    PictureOptions,
    PicturesForm,
    Problem,
    ReconstructAnswer,
    SampleAnswer,
    SampleOptions,
)
from app.server.problem_details import MEDIA_TYPE as PROBLEM_TYPE

Document = dict[str, Any]

COMPONENTS: tuple[type[BaseModel], ...] = (
    DecodeAnswer,
    EncodeAnswer,
    HealthAnswer,
    LatentsBody,
    ModelAnswer,
    PathAnswer,
    PathBody,
    PathForm,
    PicturesForm,
    Problem,
    ReconstructAnswer,
    SampleAnswer,
    SampleOptions,
)

QUEUE_ERRORS = (429, 500, 503, 504)
BODY_ERRORS = (400, 413, 415, 422)
EVERY_HEADER = {
    "X-Request-ID": "The client's own id where it sent a sane one, else a new one.",
    "Server-Timing": "Milliseconds spent in each stage.",
}


def document(version: str, has_keys: bool) -> Document:
    """The whole document; with `has_keys` the inference endpoints ask for an API key."""
    paths = {
        "/encode": {"post": _encode()},
        "/decode": {"post": _decode()},
        "/reconstruct": {"post": _reconstruct()},
        "/sample": {"post": _sample_by_body(), "get": _sample_by_query()},
        "/interpolate": {"post": _interpolate()},
    }
    if has_keys:
        for operations in paths.values():
            for operation in operations.values():
                operation["security"] = [{"bearer": []}, {"key": []}]
                operation["responses"]["401"] = _problem(401)
    schemes = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    _, definitions = models_json_schema(
        [(model, "validation") for model in COMPONENTS], ref_template="#/components/schemas/{model}"
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "car-vae",
            "version": version,
            "description": "A variational autoencoder for photographs of cars: pictures to latents and back.",
        },
        "paths": paths | _probes(),
        "components": {"schemas": definitions["$defs"]} | ({"securitySchemes": schemes} if has_keys else {}),
    }


def _encode() -> Document:
    return _operation(
        "Pictures to latents",
        "The posterior of each picture: mean and standard deviation.",
        body=_pictures(PicturesForm),
        query=[*_query(EncodeOptions), _format(JSON)],
        answer=_answer(JSON, EncodeAnswer),
        errors=(*BODY_ERRORS, 406, *QUEUE_ERRORS),
    )


def _decode() -> Document:
    return _operation(
        "Latents to pictures",
        "One latent gives its picture, several give one grid, row by row. As JSON, a data URL for each.",
        body={"application/json": _schema(LatentsBody)},
        query=[*_query(PictureOptions), _format(PICTURES)],
        answer=_answer(PICTURES, DecodeAnswer, "X-Model"),
        errors=(*BODY_ERRORS, 406, 409, *QUEUE_ERRORS),
    )


def _reconstruct() -> Document:
    return _operation(
        "Pictures to latents and back",
        "Each picture as the model remembers it; as JSON also latents and measures of likeness.",
        body=_pictures(PicturesForm),
        query=[*_query(PictureOptions), _format(PICTURES)],
        answer=_answer(PICTURES, ReconstructAnswer, "X-Model"),
        errors=(*BODY_ERRORS, 406, *QUEUE_ERRORS),
    )


def _sample_by_body() -> Document:
    return _operation(
        "New cars",
        "Pictures of latents drawn from the prior. An empty body takes every default.",
        body={"application/json": _schema(SampleOptions)},
        body_required=False,
        query=[*_query(PictureOptions), _format(PICTURES)],
        answer=_answer(PICTURES, SampleAnswer, "X-Model", "X-Seed"),
        errors=(*BODY_ERRORS, 406, *QUEUE_ERRORS),
    )


def _sample_by_query() -> Document:
    return _operation(
        "New cars, by address",
        "The same as POST /sample, for use as the source of an image. With a seed the answer may be cached.",
        query=[*_query(SampleOptions), *_query(PictureOptions), _format(PICTURES)],
        answer=_answer(PICTURES, SampleAnswer, "X-Model", "X-Seed"),
        errors=(406, 413, 422, *QUEUE_ERRORS),
    )


def _interpolate() -> Document:
    return _operation(
        "A path through latent space",
        "Frames on the way along 2 to 16 latents or pictures: one row of them, an animation (gif), or JSON.",
        body={
            "application/json": _schema(PathBody),
            "multipart/form-data": _schema(PathForm),
        },
        query=[*_query(PictureOptions), _format(ANIMATIONS)],
        answer=_answer(ANIMATIONS, PathAnswer, "X-Model"),
        errors=(*BODY_ERRORS, 406, 409, *QUEUE_ERRORS),
    )


def _probes() -> Document:
    text = {
        "description": "OK",
        "headers": _headers(),
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
    return {
        "/model": {"get": _operation("The served model", answer=_answer(JSON, ModelAnswer), errors=(503,))},
        "/health/live": {"get": _operation("Is the process alive?", answer=_answer(JSON, HealthAnswer))},
        "/health/ready": {
            "get": _operation("Can requests be sent here?", answer=_answer(JSON, HealthAnswer), errors=(503,))
        },
        "/metrics": {"get": _operation("Metrics of this process for Prometheus", answer=text)},
    }


def _operation(
    summary: str,
    description: str = "",
    *,
    answer: Document,
    body: Document | None = None,
    body_required: bool = True,
    query: Sequence[Document] = (),
    errors: Sequence[int] = (),
) -> Document:
    operation: Document = {
        "summary": summary,
        "responses": {"200": answer} | {str(status): _problem(status) for status in sorted(errors)},
    }
    if description:
        operation["description"] = description
    if query:
        operation["parameters"] = list(query)
    if body is not None:
        operation["requestBody"] = {"required": body_required, "content": body}
    return operation


def _schema(model: type[BaseModel]) -> Document:
    return {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}


def _pictures(form: type[BaseModel]) -> Document:
    file = {"schema": {"type": "string", "format": "binary"}}
    return {"multipart/form-data": _schema(form), "image/*": file, "application/octet-stream": file}


def _query(options: type[Options]) -> list[Document]:
    """The parameters of a query; null, which text cannot say, is left out of their types."""
    properties = options.model_json_schema()["properties"]
    parameters = []
    for name, schema in properties.items():
        description = schema.pop("description")
        schema.pop("title", None)
        kinds = [kind for kind in schema.pop("anyOf", ()) if kind != {"type": "null"}]
        if schema.get("default", ...) is None:
            del schema["default"]
        parameters.append(
            {
                "name": name,
                "in": "query",
                "description": description,
                "schema": schema | (kinds[0] if kinds else {}),
            }
        )
    return parameters


def _format(offered: Sequence[Format]) -> Document:
    return {
        "name": "format",
        "in": "query",
        "description": "Format of the answer; wins over Accept.",
        "schema": {"type": "string", "enum": list(offered)},
    }


def _answer(offered: Sequence[Format], model: type[BaseModel], *headers: str) -> Document:
    file = {"schema": {"type": "string", "format": "binary"}}
    content = {MEDIA_TYPES[name]: _schema(model) if name == "json" else file for name in offered}
    return {"description": "OK", "headers": _headers(*headers), "content": content}


def _problem(status: int) -> Document:
    return {
        "description": HTTPStatus(status).phrase,
        "headers": _headers(*(("Retry-After",) if status in (429, 503) else ())),
        "content": {PROBLEM_TYPE: _schema(Problem)},
    }


def _headers(*more: str) -> Document:
    texts = EVERY_HEADER | {
        "X-Model": "Id of the model; with pictures only.",
        "X-Seed": "The seed that repeats the answer.",
        "Retry-After": "Seconds.",
    }
    return {
        name: {"description": texts[name], "schema": {"type": "string"}} for name in (*EVERY_HEADER, *more)
    }
