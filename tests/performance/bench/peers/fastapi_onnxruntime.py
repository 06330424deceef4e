"""FastAPI + ONNX Runtime without batching: plain functions, which FastAPI runs in its threads."""

from typing import Annotated

import uvicorn
from fastapi import FastAPI, File, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from tests.performance.bench.peers import work

app = FastAPI()
model = work.Model()


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/encode")
def encode(image: Annotated[list[bytes], File()]) -> Response:
    body = work.latents_out(*model.encode(work.fitted(image)))
    return Response(body, media_type="application/json")


@app.post("/decode")
async def decode(request: Request) -> Response:
    body = await request.body()
    return await run_in_threadpool(_decoded, body)


def _decoded(body: bytes) -> Response:
    return Response(work.png(model.decode(work.latents_in(body))), media_type="image/png")


@app.post("/reconstruct")
def reconstruct(image: Annotated[list[bytes], File()]) -> Response:
    mean, _ = model.encode(work.fitted(image))
    return Response(work.png(model.decode(mean)), media_type="image/png")


if __name__ == "__main__":
    name = "tests.performance.bench.peers.fastapi_onnxruntime:app"
    uvicorn.run(name, port=work.PORT, workers=work.WORKERS, access_log=False, log_level="warning")
