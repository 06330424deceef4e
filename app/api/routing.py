"""Routes of the API: FastAPI matches and describes them, and their handlers get an InferenceRequest."""

from collections.abc import Callable, Coroutine
from typing import Any, get_type_hints

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from app.api.content_negotiation import Format, format_of, offered_formats, path_with
from app.api.inference_request import InferenceRequest
from app.api.validation import from_query, known_names


class Router(APIRouter):
    """FastAPI's router, where HEAD is answered wherever GET is (RFC 9110, 9.3.2), and where an endpoint that
    offers several formats has a path for each, with its suffix, beside the one that negotiates. Of these
    routes app.api.openapi makes operations itself."""

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        """Add a route, known by the name of its function; called by FastAPI's decorators."""
        self._add(path, endpoint, options | {"operation_id": endpoint.__name__})
        query = get_type_hints(endpoint).get("query")
        for name in () if query is None else offered_formats(query):
            self._add(path_with(path, name), endpoint, options | {"include_in_schema": False})

    def add_suffixed_route(
        self, path: str, name: Format, endpoint: Callable[..., Any], **options: Any
    ) -> None:
        """Add a route by GET in one format alone; the path without its suffix is none of the API."""
        suffixed = path_with(path, name)
        operation_id = f"{endpoint.__name__}_{suffixed.rpartition('.')[2]}"
        self._add(suffixed, endpoint, options | {"operation_id": operation_id, "methods": ["GET"]})

    def _add(self, path: str, endpoint: Callable[..., Any], options: dict[str, Any]) -> None:
        super().add_api_route(path, endpoint, **options)
        if "GET" in (options.get("methods") or ()):
            options = options | {"methods": ["HEAD"], "include_in_schema": False}
            super().add_api_route(path, endpoint, **options)


class InferenceRoute(APIRoute):
    """A route whose handler takes (request: InferenceRequest, query: a model of its parameters).

    FastAPI's own handler would parse bodies, which here come in several types and as large arrays, and would
    resolve dependencies that there are none of; the query alone is checked before the handler is called.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The coroutine function that answers a request."""
        handler = self.endpoint
        model = get_type_hints(handler)["query"]
        offered = offered_formats(model)
        of_path = format_of(self.path)
        names = known_names(model)
        optional = not any(field.is_required() for field in model.model_fields.values())

        async def handle(request: Request) -> Response:
            inference = InferenceRequest(request, offered, of_path, names)
            try:
                bare = optional and not request.scope["query_string"]
                query = model() if bare else from_query(model, request.query_params)
                response: Response = await handler(inference, query)
            finally:
                inference.release()
            return response

        return handle


def has_suffix(route: BaseRoute) -> bool:
    """Whether a route answers in one format alone, which its path names."""
    return isinstance(route, InferenceRoute) and format_of(route.path) is not None


def paths(router: APIRouter) -> tuple[str, ...]:
    """The path of each route of a router."""
    return tuple(route.path for route in router.routes if isinstance(route, APIRoute))
