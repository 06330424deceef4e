"""Calls of every operation with one media type, and what the service answers to them."""

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.clients.conftest import PHOTOGRAPHS

BODIES = {
    "/encode": "photographs",
    "/reconstruct": "photographs",
    "/decode": "latents",
    "/interpolate": "latents",
}
OPTIONS: dict[str, dict[str, Any]] = {
    "/sample": {"seed": 3, "count": 2},
    "/interpolate": {"seed": [1, 2], "steps": 3},
}
"""What stands in the query, or in a body that may have no latents."""


@dataclass(frozen=True)
class Call:
    """A call of one operation, with two photographs, with a body as JSON, or with options in its query."""

    operation: str
    method: str
    path: str
    media_type: str
    query: dict[str, Any] = field(default_factory=dict)
    json: dict[str, Any] | None = None
    has_photographs: bool = False

    @property
    def function(self) -> str:
        """The operation in the manner of TypeScript."""
        return re.sub(r"_(\w)", lambda letter: letter[1].upper(), self.operation)

    @property
    def is_json(self) -> bool:
        """Whether it is answered with JSON."""
        return self.media_type == "application/json"

    def as_dict(self) -> dict[str, Any]:
        """Everything, for other languages."""
        return {**asdict(self), "function": self.function, "is_json": self.is_json}

    def answer(self, url: str, folder: Path) -> httpx.Response:
        """What the service says to it."""
        photographs = [("image", (folder / name).read_bytes()) for name in PHOTOGRAPHS]
        files = photographs if self.has_photographs else None
        return httpx.request(
            self.method, url + self.path, params=self.query, json=self.json, files=files
        ).raise_for_status()


def calls_of(document: dict[str, Any], latents: list[list[float]]) -> list[Call]:
    """A call of each operation but those that negotiate their format."""
    calls = []
    for path, operations in document["paths"].items():
        endpoint = path.partition(".")[0]
        for method, operation in operations.items():
            if "model" in operation["tags"] and endpoint == path:
                continue
            kind = BODIES.get(endpoint) if method == "post" else None
            options = OPTIONS.get(endpoint, {})
            json = {"latents": latents} if kind == "latents" else options if method == "post" else None
            (media_type,) = operation["responses"]["200"]["content"]
            calls.append(
                Call(
                    operation["operationId"],
                    method.upper(),
                    path,
                    media_type,
                    query=options if method == "get" else {},
                    json=None if kind == "photographs" else json,
                    has_photographs=kind == "photographs",
                )
            )
    return calls
