"""Sessions of ONNX Runtime: on the provider that was asked for, checked against the manifest, warmed up."""

import contextlib
import io
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidGraph, InvalidProtobuf

from app.errors import ModelFolderError, ProviderUnavailable
from app.model.manifest import Manifest, ModelFile, Precision, PrecisionChoice

Array = NDArray[Any]

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

NO_FOLDER = "/dev/null"
"""Where ONNX Runtime is told to look for external weights, so that it finds none: they would escape the check
of the files' hashes, and for a graph that comes as bytes they would be read from the working directory."""

BATCH_ROWS = {"cpu": 16, "cuda": 64}
"""Most rows of one run unless something else is asked for: where larger batches bring no more per row."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SessionSpec:
    """Everything that decides how sessions run.

    Attributes:
        device: `cuda` is CUDA or an error; `auto` is CUDA where it truly works, else the CPU.
        max_batch_rows: most rows of one run, or None for what suits the device.
        threads: CPU threads of one run; with several processes one each is fastest.
        device_id: the GPU.
        gpu_mem_limit: most bytes of each session's arena on the GPU, or None for no limit.
        precision: of the graphs; `int8` is for the CPU alone, `auto` leaves it to app.inference.self_check.
    """

    device: Literal["auto", "cpu", "cuda"]
    max_batch_rows: int | None = None
    threads: int = 1
    device_id: int = 0
    gpu_mem_limit: int | None = None
    precision: PrecisionChoice = "fp32"


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a graph: its name, NumPy dtype and the shape of one row."""

    name: str
    dtype: str
    row_shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} [N, {', '.join(map(str, self.row_shape))}]"


@dataclass(frozen=True)
class GraphSpec:
    """What goes into a graph and what comes out."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def encoder_graph(manifest: Manifest, precision: Precision = "fp32") -> GraphSpec:
    """Images (N, H, W, 3) uint8 -> mean and log_variance (N, L) float32."""
    outputs = (_latents("mean", manifest), _latents("log_variance", manifest))
    return GraphSpec(manifest.files.graphs(precision)[0].path, (_images(manifest),), outputs)


def decoder_graph(manifest: Manifest, precision: Precision = "fp32") -> GraphSpec:
    """Latents (N, L) float32 -> images (N, H, W, 3) uint8."""
    latents = _latents("latents", manifest)
    return GraphSpec(manifest.files.graphs(precision)[1].path, (latents,), (_images(manifest),))


def refiner_graph(manifest: Manifest, file: ModelFile) -> GraphSpec:
    """Images (N, H, W, 3) uint8 and latents (N, L) float32 -> latents nearer to them, (N, L) float32."""
    inputs = (_images(manifest), _latents("latents", manifest))
    return GraphSpec(file.path, inputs, (_latents("refined", manifest),))


def post_filter_graph(manifest: Manifest, file: ModelFile) -> GraphSpec:
    """Grey levels of both layers and of the first (N, H, W, 3) float32, fineness (N,) float32 -> images
    (N, H, W, 3) uint8: see app.codes.codec.Filter."""
    levels = (TensorSpec(name, "float32", _images(manifest).row_shape) for name in ("layers", "base"))
    inputs = (*levels, TensorSpec("fineness", "float32", ()))
    return GraphSpec(file.path, inputs, (replace(_images(manifest), name="images"),))


def _images(manifest: Manifest) -> TensorSpec:
    return TensorSpec("pictures", "uint8", (manifest.image_size.height, manifest.image_size.width, 3))


def _latents(name: str, manifest: Manifest) -> TensorSpec:
    return TensorSpec(name, "float32", (manifest.latent_dim,))


class Session:
    """A graph on its provider. One thread at a time may run it."""

    def __init__(
        self,
        graph: GraphSpec,
        session: ort.InferenceSession,
        max_batch_rows: int,
        batch_sizes: tuple[int, ...],
    ) -> None:
        """Wrap a session; `batch_sizes` are those it may run, ascending, or none where it may run any."""
        self.graph = graph
        self.max_batch_rows = max_batch_rows
        self._session = session
        self._inputs = [each.name for each in graph.inputs]
        self._outputs = [output.name for output in graph.outputs]
        self._batch_sizes = batch_sizes
        self.provider: str = session.get_providers()[0]
        """The provider the session really runs on."""

    def run(self, *inputs: Array) -> tuple[Array, ...]:
        """Run n rows of each input; inputs and outputs are in the graph's order, outputs of n rows too."""
        count = len(inputs[0])
        bucket = next((size for size in self._batch_sizes if size >= count), count)
        if bucket > count:
            inputs = tuple(_padded(rows, bucket) for rows in inputs)
        outputs = self._session.run(self._outputs, dict(zip(self._inputs, inputs, strict=True)))
        return tuple(output[:count] for output in outputs)


def _padded(rows: Array, count: int) -> Array:
    return np.concatenate((rows, np.zeros((count - len(rows), *rows.shape[1:]), rows.dtype)))


def open_sessions(models: Mapping[GraphSpec, bytes], spec: SessionSpec) -> tuple[Session, ...]:
    """Open and warm up graphs, all on the same provider.

    Args:
        models: the bytes of each graph's ONNX file, already verified.
        spec: decides the provider and its options.

    Raises:
        ModelFolderError: a file is no valid graph, or not the one its manifest describes.
        ProviderUnavailable: CUDA was asked for and does not work, or not with this precision.
    """
    if spec.precision == "int8" and spec.device != "cpu":
        if spec.device == "cuda":
            raise ProviderUnavailable(
                "int8 graphs are for CPUs; set CAR_VAE_PRECISION=fp32 for CUDA, or CAR_VAE_DEVICE=cpu"
            )
        logger.info("running on the CPU: int8 graphs are for CPUs")
        return open_sessions(models, replace(spec, device="cpu"))
    if spec.device == "auto":
        try:
            return open_sessions(models, replace(spec, device="cuda"))
        except ProviderUnavailable as error:
            level = logging.WARNING if CUDA in ort.get_available_providers() else logging.INFO
            logger.log(level, "running on the CPU: %s", error)
            return open_sessions(models, replace(spec, device="cpu"))
    if spec.device == "cuda":
        _load_cuda()
    return tuple(_open_session(graph, model, spec) for graph, model in models.items())


def _load_cuda() -> None:
    """Find the CUDA and cuDNN libraries, in the pip packages too, before the first session needs them."""
    if CUDA not in ort.get_available_providers():
        raise ProviderUnavailable(
            "this ONNX Runtime has no CUDA; install onnxruntime-gpu in place of onnxruntime"
        )
    if hasattr(ort, "preload_dlls"):
        complaints = io.StringIO()
        with contextlib.redirect_stdout(complaints):
            ort.preload_dlls()
        for line in complaints.getvalue().splitlines():
            logger.warning("loading the CUDA libraries: %s", line)


def _open_session(graph: GraphSpec, model: bytes, spec: SessionSpec) -> Session:
    on_cuda = spec.device == "cuda"
    providers = [(CUDA, _cuda_options(spec)), CPU] if on_cuda else [CPU]
    max_rows = spec.max_batch_rows or BATCH_ROWS[spec.device]
    batch_sizes = _batch_sizes(max_rows) if on_cuda else ()
    try:
        inner = ort.InferenceSession(model, _options(spec), providers=providers)
        inner.disable_fallback()  # else a failing GPU is replaced by the CPU in the middle of the service
        found = inner.get_providers()[0]
        _check_graph(graph, inner)
        session = Session(graph, inner, max_rows, batch_sizes)
        if not on_cuda:
            _warm_up(session, graph, (max_rows, 1))
        elif found == CUDA:
            _warm_up(session, graph, batch_sizes[::-1])
    except ModelFolderError:
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0]
        if on_cuda and not isinstance(error, InvalidGraph | InvalidProtobuf):
            raise ProviderUnavailable(f"CUDA does not work for {graph.name}: {reason}") from error
        raise ModelFolderError(f"{graph.name} cannot be run, export the model again: {reason}") from error
    if on_cuda and found != CUDA:
        raise ProviderUnavailable(
            f"ONNX Runtime has CUDA but fell back to {found}; check the driver, CUDA and cuDNN (nvidia-smi)"
        )
    return session


def _options(spec: SessionSpec) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = spec.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only: what matters of the rest is checked and said here
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", NO_FOLDER)
    return options


def _cuda_options(spec: SessionSpec) -> dict[str, str]:
    options = {
        "device_id": str(spec.device_id),
        "cudnn_conv_algo_search": "HEURISTIC",  # EXHAUSTIVE times every algorithm for every size at start
        "arena_extend_strategy": "kSameAsRequested",  # the batch sizes bound what is needed; no doubling
        "use_tf32": "0",  # its ten-bit mantissas would let a result depend on the batch it was in
    }
    if spec.gpu_mem_limit is not None:
        options["gpu_mem_limit"] = str(spec.gpu_mem_limit)
    return options


def _batch_sizes(max_batch_rows: int) -> tuple[int, ...]:
    """The batch sizes allowed on a GPU: powers of two and the largest. Few shapes bound the memory of the
    arena and the searches for convolution algorithms."""
    powers = (1 << exponent for exponent in range(max_batch_rows.bit_length()))
    return tuple(sorted({*powers, max_batch_rows}))


def _check_graph(graph: GraphSpec, session: ort.InferenceSession) -> None:
    """Refuse a graph whose inputs and outputs are not those that the manifest promises."""
    expected = (list(graph.inputs), list(graph.outputs))
    found = ([_spec(node) for node in session.get_inputs()], [_spec(node) for node in session.get_outputs()])
    if found != expected:
        raise ModelFolderError(
            f"{graph.name} maps {_list(found[0])} to {_list(found[1])}, but the manifest asks for"
            f" {_list(expected[0])} to {_list(expected[1])}; export the model again"
        )


def _spec(node: Any) -> str | TensorSpec:
    """A node of the graph; in words when its shape is not any number of rows of a fixed shape."""
    kind = node.type.removeprefix("tensor(").removesuffix(")")
    batch, *row_shape = node.shape or [0]
    if isinstance(batch, int) or not all(isinstance(size, int) for size in row_shape):
        return f"{node.name} {kind} {node.shape}"
    return TensorSpec(node.name, "float32" if kind == "float" else kind, tuple(row_shape))


def _list(tensors: list[TensorSpec] | list[str | TensorSpec]) -> str:
    return ", ".join(map(str, tensors))


def _warm_up(session: Session, graph: GraphSpec, sizes: tuple[int, ...]) -> None:
    """Run every size once, the largest first: what the arena takes for it serves the smaller ones too."""
    began = time.monotonic()
    for size in sizes:
        session.run(*(np.zeros((size, *each.row_shape), each.dtype) for each in graph.inputs))
    seconds = time.monotonic() - began
    logger.info("%s runs on %s, warmed up in %.1f s", graph.name, session.provider, seconds)
