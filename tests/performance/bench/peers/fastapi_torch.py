"""FastAPI + torch as tutorials write it: UploadFile, a pydantic body, lists as JSON, eager mode.

The weights are those of the exported graphs, whose nodes are run as the torch functions they came from.
"""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
import uvicorn
from fastapi import FastAPI, UploadFile
from fastapi.responses import StreamingResponse
from onnx import numpy_helper
from PIL import Image
from pydantic import BaseModel
from torch import Tensor, nn

from app.images.encode import grid
from tests.performance.bench.peers.pictures import pillow_fit

MODEL_DIR = Path(os.environ["BENCH_MODEL_DIR"])
SIZE = json.loads((MODEL_DIR / "model.json").read_text())["image_size"]
if threads := os.environ.get("BENCH_THREADS"):
    torch.set_num_threads(int(threads))

TORCH_TYPES = {1: torch.float32, 2: torch.uint8, 6: torch.int32, 7: torch.int64}
"""onnx.TensorProto.DataType -> torch."""


def _conv(inputs: list[Any], attributes: dict[str, Any], function: Callable[..., Tensor]) -> Tensor:
    top, left = attributes["pads"][:2]
    return function(*inputs, stride=attributes["strides"], padding=(top, left))


def _gemm(inputs: list[Any], attributes: dict[str, Any]) -> Tensor:
    value, weight, *bias = inputs
    return F.linear(value, weight if attributes.get("transB") else weight.T, *bias)


def _average(inputs: list[Any], attributes: dict[str, Any]) -> Tensor:
    return F.avg_pool2d(inputs[0], attributes["kernel_shape"], attributes["strides"])


OPERATIONS: dict[str, Callable[[list[Any], dict[str, Any]], Tensor]] = {
    "Add": lambda inputs, _: torch.add(*inputs),
    "AveragePool": _average,
    "Cast": lambda inputs, attributes: inputs[0].to(TORCH_TYPES[attributes["to"]]),
    "Clip": lambda inputs, _: torch.clamp(*inputs),
    "Concat": lambda inputs, attributes: torch.cat(inputs, attributes["axis"]),
    "Conv": lambda inputs, attributes: _conv(inputs, attributes, F.conv2d),
    "ConvTranspose": lambda inputs, attributes: _conv(inputs, attributes, F.conv_transpose2d),
    "Div": lambda inputs, _: torch.div(*inputs),
    "Gemm": _gemm,
    "LeakyRelu": lambda inputs, attributes: F.leaky_relu(inputs[0], attributes["alpha"]),
    "Mul": lambda inputs, _: torch.mul(*inputs),
    "Relu": lambda inputs, _: F.relu(inputs[0]),
    "Reshape": lambda inputs, _: inputs[0].reshape(inputs[1]),
    "Round": lambda inputs, _: torch.round(inputs[0]),
    "Sigmoid": lambda inputs, _: torch.sigmoid(inputs[0]),
    "Transpose": lambda inputs, attributes: inputs[0].permute(attributes["perm"]),
}


class Graph(nn.Module):
    """An exported graph as a torch module."""

    def __init__(self, path: Path) -> None:
        """Read the graph; raises KeyError for an operation that has no counterpart here."""
        super().__init__()
        graph = onnx.load(str(path)).graph
        self.inputs = [value.name for value in graph.input]
        self.outputs = [value.name for value in graph.output]
        self.constants: dict[str, Any] = {}
        for initializer in graph.initializer:
            array = numpy_helper.to_array(initializer)
            shape_or_weight = array.tolist() if array.dtype == np.int64 else torch.from_numpy(array.copy())
            self.constants[initializer.name] = shape_or_weight
        self.steps = []
        for node in graph.node:
            operation, inputs = OPERATIONS[node.op_type], list(node.input)
            attributes = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
            if node.op_type == "Cast" and inputs[0] in self.constants:  # weights stored in half precision
                self.constants[node.output[0]] = operation([self.constants[inputs[0]]], attributes)
            else:
                self.steps.append((operation, inputs, attributes, node.output[0]))

    def forward(self, value: Tensor) -> list[Tensor]:
        values = {**self.constants, self.inputs[0]: value}
        for operation, inputs, attributes, output in self.steps:
            values[output] = operation([values[name] for name in inputs], attributes)
        return [values[name] for name in self.outputs]


class Latents(BaseModel):
    """Body of /decode."""

    latents: list[list[float]]


app = FastAPI()
encoder = Graph(MODEL_DIR / "encoder.onnx").eval()
decoder = Graph(MODEL_DIR / "decoder.onnx").eval()


async def _pictures(uploads: list[UploadFile]) -> Tensor:
    arrays = []
    for upload in uploads:
        image = Image.open(io.BytesIO(await upload.read())).convert("RGB")
        arrays.append(pillow_fit(image, SIZE["width"], SIZE["height"]))
    return torch.from_numpy(np.stack(arrays))


def _png(pictures: Tensor) -> StreamingResponse:
    file = io.BytesIO()
    Image.fromarray(grid(list(pictures.contiguous().numpy()))).save(file, format="PNG")
    file.seek(0)
    return StreamingResponse(file, media_type="image/png")


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/encode")
async def encode(image: list[UploadFile]) -> dict[str, list[list[float]]]:
    with torch.no_grad():
        mean, log_variance = encoder(await _pictures(image))
    return {"latents": mean.tolist(), "std": torch.exp(0.5 * log_variance).tolist()}


@app.post("/decode")
async def decode(body: Latents) -> StreamingResponse:
    with torch.no_grad():
        (pictures,) = decoder(torch.tensor(body.latents))
    return _png(pictures)


@app.post("/reconstruct")
async def reconstruct(image: list[UploadFile]) -> StreamingResponse:
    with torch.no_grad():
        mean, _ = encoder(await _pictures(image))
        (pictures,) = decoder(mean)
    return _png(pictures)


if __name__ == "__main__":
    name = "tests.performance.bench.peers.fastapi_torch:app"
    workers = int(os.environ.get("BENCH_WORKERS", "1"))
    uvicorn.run(name, port=int(os.environ["BENCH_PORT"]), workers=workers)
