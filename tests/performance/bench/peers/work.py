"""The work that all servers here do in the same way: Pillow, ONNX Runtime, JSON, PNG.

Only what stands in each server's requirements may be imported here, and `app.images`, which needs no more.
"""

import io
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import orjson
from numpy.typing import NDArray
from PIL import Image

from app.images.arrays import ImageArray
from app.images.encode import grid
from app.images.letterbox import fit
from tests.performance.bench.peers.pictures import pillow_fit

Floats = NDArray[np.float32]

MODEL_DIR = Path(os.environ["BENCH_MODEL_DIR"])
PORT = int(os.environ["BENCH_PORT"])
WORKERS = int(os.environ.get("BENCH_WORKERS", "1"))
THREADS = int(os.environ.get("BENCH_THREADS", "1"))
BATCH = int(os.environ.get("BENCH_BATCH", "16"))
WAIT_MS = int(os.environ.get("BENCH_WAIT_MS", "0"))
GRAPHS = os.environ.get("BENCH_ENCODER", "encoder.onnx"), os.environ.get("BENCH_DECODER", "decoder.onnx")
OWN_FIT = os.environ.get("BENCH_FIT") == "car-vae"
"""Whether pictures are fitted by this service's code instead of Pillow's."""

_SIZE = json.loads((MODEL_DIR / "model.json").read_text())["image_size"]
WIDTH, HEIGHT = int(_SIZE["width"]), int(_SIZE["height"])

_FIRST_LINE = re.compile(rb"[^\r\n]+")


class Model:
    """Both graphs in ONNX Runtime."""

    def __init__(self) -> None:
        """Open and warm them up."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.inter_op_num_threads = 1
        self._encoder, self._decoder = (
            onnxruntime.InferenceSession(str(MODEL_DIR / name), options, providers=["CPUExecutionProvider"])
            for name in GRAPHS
        )
        for rows in (BATCH, 1):
            self.decode(self.encode(np.zeros((rows, HEIGHT, WIDTH, 3), np.uint8))[0])

    def encode(self, pictures: ImageArray) -> tuple[Floats, Floats]:
        """Mean and standard deviation (N, L) float32 of (N, H, W, 3) uint8."""
        mean, log_variance = self._encoder.run(["mean", "log_variance"], {"pictures": pictures})
        return mean, np.exp(0.5 * log_variance)

    def decode(self, latents: Floats) -> ImageArray:
        """(N, H, W, 3) uint8 of (N, L) float32."""
        pictures: ImageArray = self._decoder.run(["pictures"], {"latents": latents})[0]
        return pictures


def fitted(files: Sequence[bytes]) -> ImageArray:
    """Picture files -> (N, H, W, 3) uint8."""
    return np.stack([fitted_image(Image.open(io.BytesIO(file))) for file in files])


def fitted_image(image: Image.Image) -> ImageArray:
    """An opened picture -> (H, W, 3) uint8."""
    image = image.convert("RGB")
    return fit(image, WIDTH, HEIGHT) if OWN_FIT else pillow_fit(image, WIDTH, HEIGHT)


def png(pictures: ImageArray) -> bytes:
    """One PNG of all pictures, at Pillow's fastest level that still compresses."""
    file = io.BytesIO()
    Image.fromarray(grid(list(pictures))).save(file, "PNG", compress_level=1)
    return file.getvalue()


def latents_out(mean: Floats, std: Floats) -> bytes:
    """The answer of /encode."""
    return orjson.dumps({"latents": mean, "std": std}, option=orjson.OPT_SERIALIZE_NUMPY)


def latents_in(body: bytes) -> Floats:
    """The latents of a request to /decode, (N, L) float32."""
    return np.array(orjson.loads(body)["latents"], np.float32)


def files_in(body: bytes) -> list[bytes]:
    """The files of a multipart body, for servers that leave parsing to the worker."""
    first = _FIRST_LINE.match(body)
    if first is None:
        raise ValueError("the body is empty")
    parts = body.split(first[0])
    return [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in parts[1:-1]]


def split(rows: Sequence[int], *arrays: NDArray[Any]) -> list[tuple[NDArray[Any], ...]]:
    """Cut the rows of a batch back into its requests, of so many rows each."""
    ends = np.cumsum(rows)[:-1]
    return list(zip(*(np.split(array, ends) for array in arrays), strict=True))


def encode_all(model: Model, requests: Sequence[Sequence[bytes]]) -> list[bytes]:
    """Answer several requests to /encode with one run."""
    rows = [len(files) for files in requests]
    mean, std = model.encode(fitted([file for files in requests for file in files]))
    return [latents_out(*part) for part in split(rows, mean, std)]


def decode_all(model: Model, requests: Sequence[Floats]) -> list[bytes]:
    """Answer several requests to /decode with one run."""
    pictures = model.decode(np.concatenate(requests))
    return [png(part[0]) for part in split([len(rows) for rows in requests], pictures)]


def reconstruct_all(model: Model, requests: Sequence[Sequence[bytes]]) -> list[bytes]:
    """Answer several requests to /reconstruct with one run of each graph."""
    rows = [len(files) for files in requests]
    mean, _ = model.encode(fitted([file for files in requests for file in files]))
    return [png(part[0]) for part in split(rows, model.decode(mean))]
