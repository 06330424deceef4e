"""The ways of calling graphs, on a card or the CPU: ONNX Runtime with options and bindings, and PyTorch."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnxruntime.transformers.float16 import convert_float_to_float16
from torch import Tensor, nn

from app.errors import ProviderUnavailable
from app.inference.session import (
    CPU,
    GraphSpec,
    SessionSpec,
    _cuda_options,
    _options,
    decoder_graph,
    encoder_graph,
)
from app.model.manifest import read_model_file, read_model_folder
from model_training.backends.torch_backend import DecoderGraph, EncoderGraph
from model_training.data.synthetic import draw_cars
from model_training.networks.vae import VAE

Array = NDArray[Any]
Call = Callable[[], list[Array]]
"""Rows from the host through the graphs and back; the arrays are overwritten by the next call."""


@dataclass(frozen=True)
class Device:
    """Where graphs run: the provider of ONNX Runtime, PyTorch's name of it, and on a GPU the stream that all
    copies and graphs go through, in order."""

    provider: str = CPU
    memory: torch.device = field(default_factory=lambda: torch.device("cpu"))
    stream: torch.cuda.Stream | None = None

    def here(self) -> AbstractContextManager[object]:
        """PyTorch's own work goes through the stream too."""
        return nullcontext() if self.stream is None else torch.cuda.stream(self.stream)

    def wait(self) -> None:
        """Until the card has done everything."""
        if self.stream is not None:
            torch.cuda.synchronize(self.memory)

    def host(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A buffer on the host, pinned where there is a GPU to copy from and to."""
        return torch.empty(tuple(shape), dtype=dtype, pin_memory=self.stream is not None)

    def providers(self, options: Mapping[str, str]) -> list[Any]:
        """As the service opens them, on this stream and with changed options."""
        if self.stream is None:
            return [self.provider]
        own = _cuda_options(SessionSpec("cuda"))
        stream = {"user_compute_stream": str(self.stream.cuda_stream)}
        return [(self.provider, {**own, **stream, **options}), CPU]


@dataclass(frozen=True)
class Way:
    """How ONNX Runtime is used.

    Attributes:
        options: of the CUDA provider, where they differ from the service's.
        bound: the graphs work on buffers on the device, filled from pinned ones; else plain run().
        half: the graphs compute in float16; what goes in and out stays as it is.
    """

    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    bound: bool = True
    half: bool = False


GRAPHED = {"enable_cuda_graph": "1"}
WAYS = (
    Way("run(), as the service", bound=False),
    Way("IO binding"),
    Way("IO binding, TF32", {"use_tf32": "1"}),
    Way("IO binding, NHWC", {"prefer_nhwc": "1"}),
    Way("IO binding, exhaustive search", {"cudnn_conv_algo_search": "EXHAUSTIVE"}),
    Way("CUDA graph", GRAPHED),
    Way("CUDA graph, TF32", {**GRAPHED, "use_tf32": "1"}),
    Way("CUDA graph, float16, NHWC", {**GRAPHED, "prefer_nhwc": "1"}, half=True),
)
TORCH_WAYS: Mapping[str, str | None] = {"torch, eager": None, "torch.compile": "reduce-overhead"}
"""Each with the mode it is compiled in."""


@dataclass(frozen=True)
class Job:
    """Graphs one after another, each on the first output of the one before."""

    name: str
    graphs: Sequence[GraphSpec]
    models: Sequence[bytes]
    rows: Array
    """As many as the largest batch has."""


def jobs(folder: Path, rows: int) -> list[Job]:
    """Encode, decode and reconstruct drawn cars and random latents."""
    manifest = read_model_folder(folder).manifest
    encoder, decoder = encoder_graph(manifest), decoder_graph(manifest)
    coded = read_model_file(folder, manifest.files.encoder)
    decoded = read_model_file(folder, manifest.files.decoder)
    pictures = draw_cars(rows, manifest.image_size.width, manifest.image_size.height, seed=1)
    latents = np.random.default_rng(0).standard_normal((rows, manifest.latent_dim), dtype=np.float32)
    return [
        Job("encode", [encoder], [coded], pictures),
        Job("decode", [decoder], [decoded], latents),
        Job("reconstruct", [encoder, decoder], [coded, decoded], pictures),
    ]


def open_graphs(job: Job, way: Way, device: Device) -> list[ort.InferenceSession]:
    """A session for each graph.

    Raises:
        ProviderUnavailable: it fell back to another provider.
    """
    sessions = []
    for model in job.models:
        content = to_half(model) if way.half else model
        options = _options(SessionSpec("cpu" if device.stream is None else "cuda"))
        session = ort.InferenceSession(content, options, providers=device.providers(way.options))
        session.disable_fallback()
        if session.get_providers()[0] != device.provider:
            raise ProviderUnavailable(f"ONNX Runtime fell back to {session.get_providers()[0]}")
        sessions.append(session)
    return sessions


def to_half(model: bytes) -> bytes:
    """The graph in float16, with casts at its inputs and outputs."""
    content: bytes = convert_float_to_float16(
        onnx.load_from_string(model), keep_io_types=True
    ).SerializeToString()
    return content


def plain_call(job: Job, sessions: Sequence[ort.InferenceSession], rows: Array) -> Call:
    """run() of each graph; what lies between two graphs crosses to the host and back."""

    def call() -> list[Array]:
        values = [rows]
        for graph, session in zip(job.graphs, sessions, strict=True):
            names = [output.name for output in graph.outputs]
            values = session.run(names, {graph.inputs[0].name: values[0]})
        return values

    return call


class BoundCall:
    """IO binding: pinned rows -> device, every graph in place, device -> pinned rows; one wait at the end."""

    def __init__(
        self,
        job: Job,
        sessions: Sequence[ort.InferenceSession],
        rows: Array,
        device: Device,
        graph_id: int,
    ) -> None:
        """`graph_id` tells CUDA graphs of one session apart: each holds one batch size and its addresses."""
        self.device, self.sessions = device, sessions
        self.options = ort.RunOptions()
        self.options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self.options.add_run_config_entry("gpu_graph_id", str(graph_id))
        given = torch.from_numpy(rows)
        self.rows = device.host(given.shape, given.dtype).copy_(given)
        self.input = torch.empty_like(self.rows, device=device.memory, pin_memory=False)
        self.bindings, self.buffers = [], [[self.input]]
        for graph, session in zip(job.graphs, sessions, strict=True):
            (source,) = graph.inputs
            outputs = [
                torch.empty((len(rows), *output.row_shape), dtype=_dtype(output.dtype), device=device.memory)
                for output in graph.outputs
            ]
            binding = session.io_binding()
            binding.bind_input(source.name, *_place(self.buffers[-1][0], source.dtype))
            for output, buffer in zip(graph.outputs, outputs, strict=True):
                binding.bind_output(output.name, *_place(buffer, output.dtype))
            self.bindings.append(binding)
            self.buffers.append(outputs)
        self.results = [device.host(output.shape, output.dtype) for output in self.buffers[-1]]
        device.wait()

    def __call__(self) -> list[Array]:
        with self.device.here():
            self.input.copy_(self.rows, non_blocking=True)
            for session, binding in zip(self.sessions, self.bindings, strict=True):
                session.run_with_iobinding(binding, self.options)
            for result, output in zip(self.results, self.buffers[-1], strict=True):
                result.copy_(output, non_blocking=True)
        self.device.wait()
        return [result.numpy() for result in self.results]


def _dtype(name: str) -> torch.dtype:
    found: torch.dtype = getattr(torch, name)
    return found


def _place(buffer: Tensor, dtype: str) -> tuple[str, int, type[np.generic], list[int], int]:
    """The arguments with which a buffer is bound."""
    return buffer.device.type, 0, np.dtype(dtype).type, list(buffer.shape), buffer.data_ptr()


class Reconstruct(nn.Module):
    """Encoder and decoder as one, so that they are compiled as one."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.encoder, self.decoder = EncoderGraph(model), DecoderGraph(model)

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, height, width, 3) uint8 -> the same of the mean."""
        decoded: Tensor = self.decoder(self.encoder(pictures)[0])
        return decoded


TORCH_MODULES: Mapping[str, Callable[[VAE], nn.Module]] = {
    "encode": EncoderGraph,
    "decode": DecoderGraph,
    "reconstruct": Reconstruct,
}


def torch_call(module: nn.Module, mode: str | None, rows: Array, device: Device) -> Call:
    """The same with PyTorch: pinned rows -> device, the module, device -> pinned rows.

    Args:
        mode: what the module is compiled for, at this batch size alone; None runs it eagerly.
    """
    if mode is not None:
        module.compile(mode=mode, dynamic=False)
    given = torch.from_numpy(rows)
    pinned = device.host(given.shape, given.dtype).copy_(given)
    results: list[Tensor] = []

    def call() -> list[Array]:
        with torch.inference_mode(), device.here():
            found = module(pinned.to(device.memory, non_blocking=True))
            values = found if isinstance(found, tuple) else (found,)
            if not results:
                results.extend(device.host(value.shape, value.dtype) for value in values)
            for result, value in zip(results, values, strict=True):
                result.copy_(value, non_blocking=True)
        device.wait()
        return [result.numpy() for result in results]

    return call
