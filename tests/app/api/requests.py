"""Requests to a service on the tiny model, and what is read of its answers."""

import asyncio
import base64
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from app.images.arrays import ImageArray
from app.model.latents import standard_draws
from tests.images import array_of, file_of, photograph
from tests.tiny_model import LATENT_DIM

JPEG = file_of(photograph(), "JPEG", quality=90)
PNG = file_of(photograph(50, 80, seed=3))
LATENTS = standard_draws(3, LATENT_DIM, seed=5).tolist()
AS_JSON = {"Accept": "application/json"}


def form(*files: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("image", ("car.jpg", file)) for file in files]


async def post_image(client: httpx.AsyncClient, path: str, file: bytes, **headers: str) -> httpx.Response:
    return await client.post(path, content=file, headers={"Content-Type": "image/jpeg"} | headers)


def floats(values: Any) -> NDArray[np.float32]:
    return np.asarray(values, dtype=np.float32)


def from_data_url(url: str) -> ImageArray:
    head, content = url.split(",")
    assert head == "data:image/png;base64"
    return array_of(base64.b64decode(content))


def check_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["type"]
    assert problem["title"]
    assert problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert "total;dur=" in answer.headers["server-timing"]
    assert ("errors" in problem) == (status == 422)
    return problem


async def lost_request(client: httpx.AsyncClient, path: str, *pieces: bytes) -> list[Any]:
    """Post a body, its pieces 0.1 s apart, and close the connection; gives what comes back."""
    left = list(pieces)
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if not left:
            return {"type": "http.disconnect"}
        if len(left) < len(pieces):
            await asyncio.sleep(0.1)
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"image/jpeg")] if any(pieces) else []
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": headers,
        "root_path": "",
    }
    transport = client._transport
    assert isinstance(transport, httpx.ASGITransport)
    await transport.app(scope, receive, send)
    return sent
