"""A run's best model -> a model folder: ONNX graphs checked against PyTorch, the prior, the manifest."""

import copy
import itertools
import logging
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from app.images import Pixels
from app.manifest import (
    ImageSize,
    Int8Files,
    Int8Loss,
    Manifest,
    ModelFile,
    ModelFiles,
    Parity,
    describe_file,
    write_manifest,
)
from app.quality import psnr
from model_training.codec import BATCH, Floats
from model_training.joined import split_joined_convolutions
from model_training.model import VAE, parameter_count
from model_training.prior import PRIOR
from model_training.quantise import quantise
from model_training.torch_codec import DecoderGraph, EncoderGraph, TorchCodec

OPSET = 18
CHECKED_BATCHES = (1, 2, 7, 64)

LATENT_TOLERANCE = 1e-3
"""Largest difference allowed between the latents of PyTorch and of ONNX; rounding stays far below."""

GREY_LEVEL_TOLERANCE = 1
"""Values that float32 rounding puts on either side of .5 become neighbouring grey levels."""


MAX_INT8_LOSS = 0.05
"""Most dB of PSNR that the int8 graphs may lose, end to end."""

CALIBRATION_PICTURES = 256

logger = logging.getLogger(__name__)


Model = TypeVar("Model", bound=nn.Module)


class ParityError(ValueError):
    """The exported graphs do not compute what PyTorch computes."""


def export(
    run: Path,
    target: Path,
    *,
    name: str,
    version: int,
    pictures: Pixels,
    data: dict[str, object],
    metrics: dict[str, float],
) -> Manifest:
    """Write a model folder, or nothing at all.

    The weights are rounded to float16, in which the files hold them; the graphs compute in float32. int8
    graphs for CPUs come along, unless they lose more than MAX_INT8_LOSS, which is said in a warning.

    Args:
        run: a training run; its prior.npz, where there is one, comes along.
        target: the folder to write; an existing one is replaced.
        pictures: (N, height, width, 3) uint8 real pictures, N >= 2: for the numeric check, and in turns to
            calibrate the int8 graphs and to measure their loss.
        data: what the weights were trained on and under which terms, for the manifest.
        metrics: measured quality, for the manifest.

    Raises:
        ParityError: ONNX Runtime and PyTorch differ by more than the tolerances.
        ValueError: the run has no best model.
    """
    codec = TorchCodec(run)
    model = fold_batch_norm(codec.model)
    check(codec, _TorchGraphs(model), pictures)
    round_weights(model)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as scratch:
        folder = Path(scratch) / target.name
        folder.mkdir()
        example = torch.zeros(2, codec.height, codec.width, 3, dtype=torch.uint8)
        encoder = trace_graph(EncoderGraph(model), example, ["pictures"], ["mean", "log_variance"])
        decoder = trace_graph(
            DecoderGraph(model), torch.zeros(2, codec.latent_dim), ["latents"], ["pictures"]
        )
        save_graph(store_as_half(encoder), folder / "encoder.onnx")
        split = copy.deepcopy(decoder)
        split_joined_convolutions(split)
        save_graph(store_as_half(split), folder / "decoder.onnx")
        served = _OnnxGraphs(folder / "encoder.onnx", folder / "decoder.onnx")
        parity = check(_TorchGraphs(model), served, pictures)
        int8 = _write_int8(folder, encoder, decoder, served, pictures)
        prior: ModelFile | None = None
        if (run / PRIOR).is_file():
            shutil.copyfile(run / PRIOR, folder / PRIOR)
            prior = describe_file(folder / PRIOR)
        manifest = Manifest(
            name=name,
            version=version,
            image_size=ImageSize(codec.width, codec.height),
            fit="contain-replicate-blur",
            latent_dim=codec.latent_dim,
            parameters=parameter_count(codec.model),
            opset=OPSET,
            files=ModelFiles(
                describe_file(folder / "encoder.onnx"),
                describe_file(folder / "decoder.onnx"),
                prior,
                int8,
            ),
            parity=parity,
            recipe={**codec.recipe.to_dict(), "best_epoch": codec.state["epoch"]},
            data=dict(data),
            metrics=metrics,
        )
        write_manifest(folder, manifest)
        _keep_card(target, folder)
        _replace(folder, target)
    return manifest


class Graphs(Protocol):
    """An encoder and a decoder as they are served."""

    def encode(self, pixels: Pixels) -> tuple[Floats, Floats]:
        """(N, height, width, 3) uint8 -> mean and log-variance, each (N, latent_dim) float32."""
        ...

    def decode(self, latents: Floats) -> Pixels:
        """(N, latent_dim) float32 -> (N, height, width, 3) uint8."""
        ...


class _TorchGraphs:
    """A model in PyTorch, in float32 on the CPU."""

    def __init__(self, model: VAE) -> None:
        self._encoder, self._decoder = EncoderGraph(model), DecoderGraph(model)

    def encode(self, pixels: Pixels) -> tuple[Floats, Floats]:
        with torch.inference_mode():
            mean, log_variance = self._encoder(torch.from_numpy(pixels))
        return mean.numpy(), log_variance.numpy()

    def decode(self, latents: Floats) -> Pixels:
        with torch.inference_mode():
            pixels: Pixels = self._decoder(torch.from_numpy(latents)).numpy()
        return pixels


class _OnnxGraphs:
    """Two ONNX files under ONNX Runtime on the CPU, any number of rows at a time."""

    def __init__(self, encoder: Path, decoder: Path) -> None:
        self._encoder, self._decoder = (
            onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            for path in (encoder, decoder)
        )

    def encode(self, pixels: Pixels) -> tuple[Floats, Floats]:
        parts = [self._encoder.run(None, {"pictures": chunk}) for chunk in _chunks(pixels)]
        mean, log_variance = (np.concatenate(part) for part in zip(*parts, strict=True))
        return mean, log_variance

    def decode(self, latents: Floats) -> Pixels:
        return np.concatenate([self._decoder.run(None, {"latents": chunk})[0] for chunk in _chunks(latents)])


def _chunks(rows: NDArray[Any]) -> list[NDArray[Any]]:
    return np.split(rows, range(BATCH, len(rows), BATCH))


def check(expected: Graphs, found: Graphs, pictures: Pixels) -> Parity:
    """Largest differences between two forms of a model, with real pictures and noise of the same size.

    Raises:
        ParityError: they exceed the tolerances.
    """
    random = np.random.default_rng(0)
    largest = np.zeros(3)
    for batch in CHECKED_BATCHES:
        noise = random.integers(0, 256, (batch, *pictures.shape[1:]), dtype=np.uint8)
        for inputs in (noise, pictures[np.arange(batch) % len(pictures)]):
            mean, log_variance = found.encode(inputs)
            expected_mean, expected_log_variance = expected.encode(inputs)
            latents = _draws(expected_mean, expected_log_variance, random)
            difference = found.decode(latents).astype(int) - expected.decode(latents)
            largest = np.maximum(
                largest,
                [
                    np.abs(mean - expected_mean).max(),
                    np.abs(log_variance - expected_log_variance).max(),
                    np.abs(difference).max(),
                ],
            )
    parity = Parity(float(largest[0]), float(largest[1]), int(largest[2]))
    if not (
        parity.encoder_mean <= LATENT_TOLERANCE
        and parity.encoder_log_variance <= LATENT_TOLERANCE
        and parity.decoder_grey_levels <= GREY_LEVEL_TOLERANCE
    ):
        raise ParityError(
            f"the export differs from PyTorch by more than allowed: {parity}; nothing was written"
        )
    return parity


def _draws(mean: Floats, log_variance: Floats, random: np.random.Generator) -> Floats:
    """One latent of each posterior."""
    draws: Floats = mean + np.exp(0.5 * log_variance) * random.standard_normal(mean.shape, np.float32)
    return draws


def _write_int8(
    folder: Path, encoder: onnx.ModelProto, decoder: onnx.ModelProto, served: Graphs, pictures: Pixels
) -> Int8Files | None:
    """Write the int8 graphs beside the others; None, and no files, where they lose too much."""
    calibration, unseen = pictures[::2][:CALIBRATION_PICTURES], pictures[1::2]
    draws = _draws(*served.encode(calibration), np.random.default_rng(1))
    paths = folder / "encoder-int8.onnx", folder / "decoder-int8.onnx"
    save_graph(store_as_half(quantise(encoder, calibration)), paths[0])
    save_graph(store_as_half(quantise(decoder, draws)), paths[1])
    loss = int8_loss(served, _OnnxGraphs(*paths), unseen)
    if not loss.psnr <= MAX_INT8_LOSS:
        logger.warning("no int8 graphs: they would lose %.3f dB, more than %.2f dB", loss.psnr, MAX_INT8_LOSS)
        for path in paths:
            path.unlink()
        return None
    logger.info("int8 loses %.3f dB; its latents are off by %.1f %%", loss.psnr, 100 * loss.latents)
    return Int8Files(describe_file(paths[0]), describe_file(paths[1]), loss)


def int8_loss(full: Graphs, int8: Graphs, pictures: Pixels) -> Int8Loss:
    """What int8 costs from pictures to pictures, and in the latents between."""
    (mean, _), (int8_mean, _) = full.encode(pictures), int8.encode(pictures)
    qualities = psnr(pictures, full.decode(mean)), psnr(pictures, int8.decode(int8_mean))
    return Int8Loss(
        pictures=len(pictures),
        psnr=float(np.mean(qualities[0]) - np.mean(qualities[1])),
        latents=float(np.linalg.norm(int8_mean - mean) / np.linalg.norm(mean)),
    )


def fold_batch_norm(model: Model) -> Model:
    """A copy of an evaluated model whose batch norms are part of the layers right before them.

    ONNX Runtime folds them into convolutions by itself, but not into transposed ones or products.
    """
    model = copy.deepcopy(model).eval()
    for layers in model.modules():
        if isinstance(layers, nn.Sequential):
            for place, (layer, norm) in enumerate(itertools.pairwise(layers)):
                folded = _folded(layer, norm)
                if folded is not None:
                    layers[place], layers[place + 1] = folded, nn.Identity()
    return model


def _folded(layer: nn.Module, norm: nn.Module) -> nn.Module | None:
    if isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d):
        return fuse_linear_bn_eval(layer, norm)
    if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
        return fuse_conv_bn_eval(layer, norm)
    if isinstance(layer, nn.ConvTranspose2d) and isinstance(norm, nn.BatchNorm2d):
        return fuse_conv_bn_eval(layer, norm, transpose=True)
    return None


def round_weights(model: nn.Module) -> None:
    """Round matrices and kernels in place to values that float16 holds."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(parameter.half())


def store_as_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """A graph whose float32 weights that float16 holds exactly are stored so, in half the bytes.

    A Cast brings each back; ONNX Runtime computes it once, when it loads the graph.
    """
    stored = copy.deepcopy(model)
    casts = []
    for tensor in stored.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.ndim < 2:
            continue
        half = values.astype(np.float16)
        if np.array_equal(half.astype(np.float32), values):
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
            casts.append(
                helper.make_node("Cast", [tensor.name], [name], f"{name}.float", to=TensorProto.FLOAT)
            )
    nodes = list(model.graph.node)
    del stored.graph.node[:]
    stored.graph.node.extend([*casts, *nodes])
    return stored


def trace_graph(
    graph: nn.Module, example: torch.Tensor, inputs: Sequence[str], outputs: Sequence[str]
) -> onnx.ModelProto:
    for exporter in ("torch.onnx", "onnxscript", "onnx_ir"):  # they tell of every pass and missing package
        logging.getLogger(exporter).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch's own use of its own deprecated functions
        program = torch.onnx.export(
            graph.eval(),
            (example,),
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=({0: torch.export.Dim("N")},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _strip_traces(model)
    return model


def save_graph(model: onnx.ModelProto, path: Path) -> None:
    onnx.save(model, path)
    onnx.checker.check_model(path, full_check=True)


def _strip_traces(model: onnx.ModelProto) -> None:
    """Drop the exporter's notes on each node: stack traces with the paths of the machine it ran on."""
    graph = model.graph
    for noted in (
        model,
        graph,
        *graph.node,
        *graph.value_info,
        *graph.input,
        *graph.output,
        *graph.initializer,
    ):
        noted.ClearField("metadata_props")


def _keep_card(target: Path, folder: Path) -> None:
    """A model card written by hand outlives a new export."""
    card = target / "README.md"
    if card.is_file():
        shutil.copyfile(card, folder / card.name)


def _replace(folder: Path, target: Path) -> None:
    """Put the finished folder in the place of the old one."""
    if target.exists():
        old = folder.with_name("old")
        target.rename(old)
    folder.rename(target)
