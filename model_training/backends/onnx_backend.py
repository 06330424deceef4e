"""Backend of an exported model folder, under ONNX Runtime; needs no torch."""

from pathlib import Path

import numpy as np
import onnxruntime

from app.images.arrays import ImageArray
from app.model.manifest import Manifest, read_manifest, read_model_file
from model_training.backends.base import Floats, chunks


class OnnxBackend:
    """An exported model folder under ONNX Runtime on the CPU; needs no torch."""

    def __init__(self, folder: Path) -> None:
        self.manifest: Manifest = read_manifest(folder)
        self.width = self.manifest.image_size.width
        self.height = self.manifest.image_size.height
        self.latent_dim = self.manifest.latent_dim
        self._encoder = _session(read_model_file(folder, self.manifest.files.encoder))
        self._decoder = _session(read_model_file(folder, self.manifest.files.decoder))

    def encode(self, pixels: ImageArray) -> tuple[Floats, Floats]:
        parts = [self._encoder.run(None, {"pictures": chunk}) for chunk in chunks(pixels)]
        return np.concatenate([mean for mean, _ in parts]), np.concatenate(
            [variance for _, variance in parts]
        )

    def decode(self, latents: Floats) -> ImageArray:
        return np.concatenate([self._decoder.run(None, {"latents": chunk})[0] for chunk in chunks(latents)])


def _session(graph: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
