"""Calls of every operation with one media type, and what the service answers to them."""

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.clients.conftest import PHOTOGRAPHS

CAR = "/c/{code}"
PHOTOGRAPHS_OF = {
    "/encode": 2,
    "/reconstruct": 2,
    "/compress.json": 2,
    "/compress.bin": 1,  # is one code
    "/preview": 1,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "/sample": {"seed": 3, "count": 2},
    "/interpolate": {"seed": [1, 2], "steps": 3},
}
"""What stands in the query, or in a body that may have neither latents nor codes."""


@dataclass(frozen=True)
class Call:
    """A call of one operation: with photographs, a body as JSON, or options in its path or query."""

    operation: str
    method: str
    path: str
    media_type: str
    query: dict[str, Any] = field(default_factory=dict)
    json: dict[str, Any] | None = None
    photographs: int = 0
    code: str | None = None

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
        files = photographs[: self.photographs] or None
        path = self.path.format(code=self.code)
        return httpx.request(
            self.method, url + path, params=self.query, json=self.json, files=files
        ).raise_for_status()


def calls_of(document: dict[str, Any], latents: list[list[float]], codes: list[str]) -> list[Call]:
    """A call of each operation but those that negotiate their format."""
    bodies: dict[str, dict[str, Any]] = {"/interpolate": {"latents": latents}, "/decode": {"codes": codes}}
    options = OPTIONS | {"/decode": {"code": codes}}
    calls = []
    for path, operations in document["paths"].items():
        endpoint = path.partition(".")[0]
        for method, operation in operations.items():
            if "model" in operation["tags"] and endpoint == path:
                continue
            photographs = PHOTOGRAPHS_OF.get(endpoint, PHOTOGRAPHS_OF.get(path, 0))
            has_json = method == "post" and not photographs
            (media_type,) = operation["responses"]["200"]["content"]
            calls.append(
                Call(
                    operation["operationId"],
                    method.upper(),
                    path,
                    media_type,
                    query=options.get(endpoint, {}) if method == "get" else {},
                    json=bodies.get(endpoint, options.get(endpoint, {})) if has_json else None,
                    photographs=photographs,
                    code=codes[0] if endpoint == CAR else None,
                )
            )
    return calls
