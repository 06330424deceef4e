"""The way to the endpoints that carry the load: one look-up by path and method."""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.routing import Route

from app.errors import ServiceError
from app.server.asgi import App, Receive, Scope, Send
from app.server.problem_details import from_service_error


class Endpoints:
    """Calls the endpoint of a request, and answers with what it returns or with the error it raises. What is
    none of them goes on to the router, which tries one route after the other."""

    def __init__(self, app: App, routes: Sequence[Route]) -> None:
        """Take the endpoints of plain paths; `app` gets the rest."""
        self._app = app
        self._endpoints = {
            (route.path, method): route.endpoint for route in routes for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = None
        if scope["type"] == "http":
            endpoint = self._endpoints.get((scope["path"], scope["method"]))
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        try:
            response = await endpoint(Request(scope, receive))
        except ServiceError as error:
            response = from_service_error(scope, error)
        await response(scope, receive, send)
