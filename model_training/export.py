"""A run's best model -> a model folder: ONNX graphs checked against PyTorch, the prior, the manifest."""

import copy
import logging
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from app.images import Pixels
from app.manifest import ImageSize, Manifest, ModelFile, ModelFiles, Parity, describe_file, write_manifest
from model_training.model import VAE, parameter_count
from model_training.prior import PRIOR
from model_training.torch_codec import DecoderGraph, EncoderGraph, TorchCodec

OPSET = 18
CHECKED_BATCHES = (1, 2, 7, 64)

LATENT_TOLERANCE = 1e-3
"""Largest difference allowed between the latents of PyTorch and of ONNX; rounding stays far below."""

GREY_LEVEL_TOLERANCE = 1
"""Values that float32 rounding puts on either side of .5 become neighbouring grey levels."""


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

    Args:
        run: a training run; its prior.npz, where there is one, comes along.
        target: the folder to write; an existing one is replaced.
        pictures: (N, height, width, 3) uint8 real pictures for the numeric check, N >= 1.
        data: what the weights were trained on and under which terms, for the manifest.
        metrics: measured quality, for the manifest.

    Raises:
        ParityError: ONNX Runtime and PyTorch differ by more than the tolerances.
        ValueError: the run has no best model.
    """
    codec = TorchCodec(run)
    model = fold_batch_norm(codec.model)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as scratch:
        folder = Path(scratch) / target.name
        folder.mkdir()
        example = torch.zeros(2, codec.height, codec.width, 3, dtype=torch.uint8)
        _write(
            EncoderGraph(model.encoder),
            example,
            folder / "encoder.onnx",
            ["pictures"],
            ["mean", "log_variance"],
        )
        example = torch.zeros(2, codec.latent_dim)
        _write(DecoderGraph(model.decoder), example, folder / "decoder.onnx", ["latents"], ["pictures"])
        parity = check(codec, folder, pictures)
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
                describe_file(folder / "encoder.onnx"), describe_file(folder / "decoder.onnx"), prior
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


def check(codec: TorchCodec, folder: Path, pictures: Pixels) -> Parity:
    """Largest differences between the ONNX graphs of a folder and PyTorch, with real and random input.

    Raises:
        ParityError: they exceed the tolerances.
    """
    encoder = onnxruntime.InferenceSession(folder / "encoder.onnx", providers=["CPUExecutionProvider"])
    decoder = onnxruntime.InferenceSession(folder / "decoder.onnx", providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    largest = np.zeros(3)
    for batch in CHECKED_BATCHES:
        noise = random.integers(0, 256, (batch, codec.height, codec.width, 3), dtype=np.uint8)
        for inputs in (noise, pictures[np.arange(batch) % len(pictures)]):
            mean, log_variance = encoder.run(None, {"pictures": inputs})
            expected_mean, expected_log_variance = codec.encode(inputs)
            latents = expected_mean + np.exp(0.5 * expected_log_variance) * random.standard_normal(mean.shape)
            latents = latents.astype(np.float32)
            decoded = decoder.run(None, {"latents": latents})[0]
            largest = np.maximum(
                largest,
                [
                    np.abs(mean - expected_mean).max(),
                    np.abs(log_variance - expected_log_variance).max(),
                    np.abs(decoded.astype(int) - codec.decode(latents)).max(),
                ],
            )
    parity = Parity(float(largest[0]), float(largest[1]), int(largest[2]))
    if not (
        parity.encoder_mean <= LATENT_TOLERANCE
        and parity.encoder_log_variance <= LATENT_TOLERANCE
        and parity.decoder_grey_levels <= GREY_LEVEL_TOLERANCE
    ):
        raise ParityError(
            f"ONNX Runtime differs from PyTorch by more than allowed: {parity}; nothing was written"
        )
    return parity


def fold_batch_norm(model: VAE) -> VAE:
    """A copy of an evaluated model whose batch norms are part of the convolutions before them.

    ONNX Runtime folds them into convolutions by itself, but not into transposed ones.
    """
    model = copy.deepcopy(model).eval()
    for stage in (*model.encoder.stages, *model.decoder.stages):
        assert isinstance(stage, nn.Sequential)
        convolution, norm = stage[0], stage[1]
        assert isinstance(norm, nn.BatchNorm2d)
        transposed = isinstance(convolution, nn.ConvTranspose2d)
        stage[0] = fuse_conv_bn_eval(convolution, norm, transpose=transposed)  # type: ignore[type-var]
        stage[1] = nn.Identity()
    return model


def _write(
    graph: nn.Module, example: torch.Tensor, path: Path, inputs: Sequence[str], outputs: Sequence[str]
) -> None:
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
