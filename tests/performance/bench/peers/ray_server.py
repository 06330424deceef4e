"""Ray Serve: a deployment of several replicas behind FastAPI ingress, with serve.batch.

What its performance guide recommends for throughput is set in the environment, see servers.py.
"""

import signal
import threading
from typing import Annotated, Any

import ray
from fastapi import FastAPI, File, Request
from fastapi.responses import Response
from ray import serve

from tests.performance.bench.peers import work

app = FastAPI()


@serve.deployment(num_replicas=work.WORKERS, max_ongoing_requests=128, ray_actor_options={"num_cpus": 0})
@serve.ingress(app)
class Vae:
    """The three endpoints."""

    def __init__(self) -> None:
        """Open the model."""
        self.model = work.Model()

    @app.get("/health")
    async def health(self) -> dict[str, str]:
        """Readiness."""
        return {"status": "ok"}

    @serve.batch(max_batch_size=work.BATCH, batch_wait_timeout_s=work.WAIT_MS / 1000)
    async def encode_batch(self, requests: list[Any]) -> list[bytes]:
        """Several requests to /encode."""
        return work.encode_all(self.model, requests)

    @serve.batch(max_batch_size=work.BATCH, batch_wait_timeout_s=work.WAIT_MS / 1000)
    async def decode_batch(self, requests: list[Any]) -> list[bytes]:
        """Several requests to /decode."""
        return work.decode_all(self.model, requests)

    @serve.batch(max_batch_size=work.BATCH, batch_wait_timeout_s=work.WAIT_MS / 1000)
    async def reconstruct_batch(self, requests: list[Any]) -> list[bytes]:
        """Several requests to /reconstruct."""
        return work.reconstruct_all(self.model, requests)

    @app.post("/encode")
    async def encode(self, image: Annotated[list[bytes], File()]) -> Response:
        """Pictures -> JSON."""
        return Response(await self.encode_batch(image), media_type="application/json")

    @app.post("/decode")
    async def decode(self, request: Request) -> Response:
        """JSON -> PNG."""
        latents = work.latents_in(await request.body())
        return Response(await self.decode_batch(latents), media_type="image/png")

    @app.post("/reconstruct")
    async def reconstruct(self, image: Annotated[list[bytes], File()]) -> Response:
        """Pictures -> PNG."""
        return Response(await self.reconstruct_batch(image), media_type="image/png")


if __name__ == "__main__":
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="warning")
    serve.start(http_options={"host": "127.0.0.1", "port": work.PORT})
    deployment: Any = Vae
    serve.run(deployment.bind())
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    stopped.wait()
    serve.shutdown()
    ray.shutdown()
