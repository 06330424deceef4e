"""Backend of an exported model folder, under ONNX Runtime on the CPU; needs no torch."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from app.images.arrays import ImageArray
from app.model.manifest import Manifest, read_model_folder
from model_training.backends.base import Floats, in_batches


class BatchedSession:
    """ONNX Runtime session of a graph, which it runs in batches.

    Attributes:
        input_shape: of the first input, as the graph declares it, with a name for the number of rows.
    """

    def __init__(self, model: Path | bytes) -> None:
        """Load an ONNX file, or the content of one; what is wrong with it raises errors of ONNX Runtime."""
        self._session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        sources = self._session.get_inputs()
        self._inputs: list[str] = [source.name for source in sources]
        self.input_shape: list[Any] = sources[0].shape

    def __call__(self, *inputs: NDArray[Any]) -> list[NDArray[Any]]:
        """(N, ...) for each input -> the graph's outputs, N rows each."""
        batches = [
            self._session.run(None, dict(zip(self._inputs, map(np.ascontiguousarray, batch), strict=True)))
            for batch in zip(*map(in_batches, inputs), strict=True)
        ]
        return [np.concatenate(output) for output in zip(*batches, strict=True)]


class OnnxGraphs:
    """ONNX graphs of an encoder and a decoder."""

    def __init__(self, encoder: Path | bytes, decoder: Path | bytes) -> None:
        self._encoder, self._decoder = BatchedSession(encoder), BatchedSession(decoder)

    def encode(self, images: ImageArray) -> tuple[Floats, Floats]:
        mean, log_variance = self._encoder(images)
        return mean, log_variance

    def decode(self, latents: Floats) -> ImageArray:
        (images,) = self._decoder(latents)
        return images


class OnnxBackend:
    """An exported model folder.

    Attributes:
        manifest: what its model.json says.
    """

    def __init__(self, folder: Path) -> None:
        """Read a folder.

        Raises:
            ModelFolderError: something is missing, altered or not understood.
        """
        model = read_model_folder(folder)
        self.manifest: Manifest = model.manifest
        self.width = self.manifest.image_size.width
        self.height = self.manifest.image_size.height
        self.latent_dim = self.manifest.latent_dim
        self._graphs = OnnxGraphs(
            model.content(self.manifest.files.encoder), model.content(self.manifest.files.decoder)
        )
        refiner = self.manifest.files.refiner
        self._refiner = None if refiner is None else BatchedSession(model.content(refiner))

    def encode(self, images: ImageArray) -> tuple[Floats, Floats]:
        return self._graphs.encode(images)

    def decode(self, latents: Floats) -> ImageArray:
        return self._graphs.decode(latents)

    def refine(self, images: ImageArray, latents: Floats) -> Floats:
        if self._refiner is None:
            return latents
        (refined,) = self._refiner(images, latents)
        return refined
