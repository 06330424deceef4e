"""A trained model as the rest of the code uses it: a training run, or an exported folder."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from app.images import Pixels
from app.manifest import MANIFEST_NAME, Manifest, read_manifest, read_model_file

Floats = NDArray[np.float32]

BATCH = 128


class Codec(Protocol):
    """Pictures to latents and back, with what describes them."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    @property
    def latent_dim(self) -> int: ...

    def encode(self, pixels: Pixels) -> tuple[Floats, Floats]:
        """(N, height, width, 3) uint8 -> mean and log-variance, each (N, latent_dim) float32."""
        ...

    def decode(self, latents: Floats) -> Pixels:
        """(N, latent_dim) float32 -> (N, height, width, 3) uint8."""
        ...


class OnnxCodec:
    """An exported model folder under ONNX Runtime on the CPU; needs no torch."""

    def __init__(self, folder: Path) -> None:
        self.manifest: Manifest = read_manifest(folder)
        self.width = self.manifest.image_size.width
        self.height = self.manifest.image_size.height
        self.latent_dim = self.manifest.latent_dim
        self._encoder = _session(read_model_file(folder, self.manifest.files.encoder))
        self._decoder = _session(read_model_file(folder, self.manifest.files.decoder))

    def encode(self, pixels: Pixels) -> tuple[Floats, Floats]:
        parts = [self._encoder.run(None, {"pictures": chunk}) for chunk in _chunks(pixels)]
        return np.concatenate([mean for mean, _ in parts]), np.concatenate(
            [variance for _, variance in parts]
        )

    def decode(self, latents: Floats) -> Pixels:
        return np.concatenate([self._decoder.run(None, {"latents": chunk})[0] for chunk in _chunks(latents)])


def open_codec(path: Path) -> Codec:
    """An exported model folder, or the best checkpoint of a training run.

    Raises:
        ValueError: neither is there, or it is damaged.
    """
    if (path / MANIFEST_NAME).is_file():
        return OnnxCodec(path)
    from model_training.torch_codec import TorchCodec

    return TorchCodec(path)


def _session(graph: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])


def _chunks(rows: NDArray[Any]) -> list[NDArray[Any]]:
    return np.split(rows, range(BATCH, len(rows), BATCH))
