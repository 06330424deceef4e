"""LitServe: one LitAPI per endpoint, batching, several workers, the fast queue for many requests a second."""

from collections.abc import Sequence
from typing import Any

import litserve
import numpy as np
from fastapi import Request, Response

from tests.performance.bench.peers import work


class Pictures(litserve.LitAPI):
    """What the endpoints share: the model, and bodies of pictures."""

    media_type = "application/json"

    def setup(self, device: str) -> None:  # noqa: ARG002 - called by name
        """Open the model."""
        self.model = work.Model()

    def decode_request(self, request: Request) -> list[bytes]:
        """Multipart in, which LitServe has parsed."""
        form: Any = request  # annotated as LitServe asks for it; what comes is the form
        return [upload.file.read() for upload in form.getlist("image")]

    def batch(self, inputs: list[Any]) -> list[Any]:
        """Requests differ in their number of rows, so they stay a list."""
        return inputs

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        """One body per request."""
        return output

    def encode_response(self, output: bytes) -> Response:
        """The body as it is."""
        return Response(output, media_type=self.media_type)


class Encode(Pictures):
    """Pictures -> JSON."""

    def predict(self, x: Sequence[list[bytes]]) -> list[bytes]:
        """Answer a batch of requests."""
        return work.encode_all(self.model, x)


class Decode(Pictures):
    """JSON -> PNG."""

    media_type = "image/png"

    def decode_request(self, request: Request) -> Any:
        """Latents in, which LitServe has parsed."""
        return np.array(request["latents"], np.float32)

    def predict(self, x: Sequence[Any]) -> list[bytes]:
        """Answer a batch of requests."""
        return work.decode_all(self.model, x)


class Reconstruct(Pictures):
    """Pictures -> PNG."""

    media_type = "image/png"

    def predict(self, x: Sequence[list[bytes]]) -> list[bytes]:
        """Answer a batch of requests."""
        return work.reconstruct_all(self.model, x)


if __name__ == "__main__":
    apis = [
        api(max_batch_size=work.BATCH, batch_timeout=work.WAIT_MS / 1000, api_path=path)
        for path, api in (("/encode", Encode), ("/decode", Decode), ("/reconstruct", Reconstruct))
    ]
    server = litserve.LitServer(
        apis, accelerator="cpu", workers_per_device=work.WORKERS, fast_queue=True, timeout=60
    )
    server.run(
        host="127.0.0.1",
        port=work.PORT,
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )
