"""mosec: one worker class per endpoint, dynamic batching, several processes."""

from collections.abc import Sequence
from typing import Any

from mosec import Server, Worker
from mosec.runtime import Runtime

from tests.performance.bench.peers import work


class Pictures(Worker):
    """What the endpoints share: the model, and bodies of pictures."""

    def __init__(self) -> None:
        """Open the model."""
        super().__init__()
        self.model = work.Model()

    def deserialize(self, data: bytes) -> Any:
        """Multipart in."""
        return work.files_in(data)

    def serialize(self, data: bytes) -> bytes:
        """What forward gives is the body."""
        return data


class Encode(Pictures):
    """Pictures -> JSON."""

    def forward(self, data: Sequence[Any]) -> list[bytes]:
        """Answer a batch of requests."""
        return work.encode_all(self.model, data)


class Decode(Pictures):
    """JSON -> PNG."""

    resp_mime_type = "image/png"

    def deserialize(self, data: bytes) -> Any:
        """Latents in."""
        return work.latents_in(data)

    def forward(self, data: Sequence[Any]) -> list[bytes]:
        """Answer a batch of requests."""
        return work.decode_all(self.model, data)


class Reconstruct(Pictures):
    """Pictures -> PNG."""

    resp_mime_type = "image/png"

    def forward(self, data: Sequence[Any]) -> list[bytes]:
        """Answer a batch of requests."""
        return work.reconstruct_all(self.model, data)


if __name__ == "__main__":
    server = Server()
    routes = {"/encode": Encode, "/decode": Decode, "/reconstruct": Reconstruct}
    wait = max(1, work.WAIT_MS)
    server.register_runtime(
        {
            route: [Runtime(worker, work.WORKERS, work.BATCH, wait, timeout=30)]
            for route, worker in routes.items()
        }
    )
    server.run()
