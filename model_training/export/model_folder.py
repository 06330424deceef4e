"""Export of a run to a model folder: graphs checked against PyTorch, int8 graphs, prior, manifest."""

import copy
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from app.images.arrays import ImageArray
from app.images.quality import psnr
from app.model.manifest import (
    ImageSize,
    Int8Files,
    Int8Loss,
    Manifest,
    ModelFile,
    ModelFiles,
    describe_file,
    write_manifest,
)
from model_training.backends.base import Graphs
from model_training.backends.onnx_backend import BatchedSession, OnnxGraphs
from model_training.backends.torch_backend import DecoderGraph, EncoderGraph, TorchBackend, TorchGraphs
from model_training.export.integer_products import use_integer_products
from model_training.export.onnx_graph import (
    OPSET,
    round_to_float16,
    save_graph,
    store_as_float16,
    trace_graph,
)
from model_training.export.parity import check_parity, check_refiner, draw_latents
from model_training.export.quantise import quantise
from model_training.export.split_concat_conv import split_concat_convolutions
from model_training.networks.subpixel_vae import Decoder
from model_training.networks.vae import VAE, parameter_count
from model_training.prior_recipe import PriorConfig
from model_training.refinement.fit import read_refiner
from model_training.refinement.refiner import Refiner
from model_training.run_folder import PRIOR, REFINER
from model_training.torch_utils import fold_batch_norms

MAX_INT8_LOSS = 0.05
"""Most dB of PSNR that the int8 graphs may lose, end to end."""

CALIBRATION_IMAGES = 256

ENCODER, DECODER = "encoder.onnx", "decoder.onnx"
REFINER_GRAPH = "refiner.onnx"
ENCODER_INT8, DECODER_INT8 = "encoder-int8.onnx", "decoder-int8.onnx"

logger = logging.getLogger(__name__)


def export_run(
    run: Path,
    target: Path,
    *,
    name: str,
    version: int,
    images: ImageArray,
    data: dict[str, object],
    metrics: dict[str, float],
) -> Manifest:
    """Write a model folder, or nothing at all.

    The weights are rounded to float16, in which the files hold them; the graphs compute in float32. int8
    graphs for CPUs come along, unless they lose more than MAX_INT8_LOSS, which is said in a warning.

    Args:
        run: a training run; its prior.npz, where there is one, comes along.
        target: the folder to write; an existing one is replaced.
        images: (N, height, width, 3) uint8 photographs, N >= 2: for the check against PyTorch, and in turns
            to calibrate the int8 graphs and to measure their loss.
        data: what the weights were trained on and under which terms, for the manifest.
        metrics: measured quality, for the manifest.

    Raises:
        ParityError: ONNX Runtime and PyTorch differ by more than the tolerances.
        ValueError: the run has no best model.
    """
    backend = TorchBackend(run)
    model = fold_batch_norms(backend.model)
    check_parity(backend, TorchGraphs(model), images)
    round_to_float16(model)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as scratch:
        folder = Path(scratch) / target.name
        folder.mkdir()
        encoder, decoder = _trace(model, backend)
        save_graph(store_as_float16(encoder), folder / ENCODER)
        fast_decoder = copy.deepcopy(decoder)
        split_concat_convolutions(fast_decoder)
        save_graph(store_as_float16(fast_decoder), folder / DECODER)
        exported = OnnxGraphs(folder / ENCODER, folder / DECODER)
        parity = check_parity(TorchGraphs(model), exported, images)
        int8 = _write_int8(folder, encoder, decoder, exported, images)
        manifest = Manifest(
            name=name,
            version=version,
            image_size=ImageSize(backend.width, backend.height),
            fit="contain-replicate-blur",
            latent_dim=backend.latent_dim,
            parameters=parameter_count(backend.model),
            opset=OPSET,
            files=ModelFiles(
                describe_file(folder / ENCODER),
                describe_file(folder / DECODER),
                _copy_prior(run, folder),
                int8,
                _write_refiner(run, folder, model, images),
            ),
            parity=parity,
            recipe=_recipe_record(run, backend),
            data=dict(data),
            metrics=metrics,
        )
        write_manifest(folder, manifest)
        _keep_card(target, folder)
        _replace(folder, target)
    return manifest


def _trace(model: VAE, backend: TorchBackend) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The encoder and the decoder of a model as graphs, under the names that the service knows."""
    images = torch.zeros(2, backend.height, backend.width, 3, dtype=torch.uint8)
    latents = torch.zeros(2, backend.latent_dim)
    return (
        trace_graph(EncoderGraph(model), (images,), ["pictures"], ["mean", "log_variance"]),
        trace_graph(DecoderGraph(model), (latents,), ["latents"], ["pictures"]),
    )


def _write_int8(
    folder: Path,
    encoder: onnx.ModelProto,
    decoder: onnx.ModelProto,
    exported: Graphs,
    images: ImageArray,
) -> Int8Files | None:
    """Write the int8 graphs beside the others; None, and no files, where they lose too much."""
    calibration, unseen = images[::2][:CALIBRATION_IMAGES], images[1::2]
    latents = draw_latents(*exported.encode(calibration), np.random.default_rng(1))
    paths = folder / ENCODER_INT8, folder / DECODER_INT8
    save_graph(store_as_float16(quantise(encoder, calibration)), paths[0])
    save_graph(store_as_float16(quantise(decoder, latents)), paths[1])
    loss = _int8_loss(exported, OnnxGraphs(*paths), unseen)
    if not loss.psnr <= MAX_INT8_LOSS:
        logger.warning("no int8 graphs: they would lose %.3f dB, more than %.2f dB", loss.psnr, MAX_INT8_LOSS)
        for path in paths:
            path.unlink()
        return None
    logger.info("int8 loses %.3f dB; its latents are off by %.1f %%", loss.psnr, 100 * loss.latents)
    return Int8Files(describe_file(paths[0]), describe_file(paths[1]), loss)


def _int8_loss(full: Graphs, int8: Graphs, images: ImageArray) -> Int8Loss:
    """What int8 costs from images to images, and in the latents between."""
    (mean, _), (int8_mean, _) = full.encode(images), int8.encode(images)
    qualities = psnr(images, full.decode(mean)), psnr(images, int8.decode(int8_mean))
    return Int8Loss(
        pictures=len(images),
        psnr=float(np.mean(qualities[0]) - np.mean(qualities[1])),
        latents=float(np.linalg.norm(int8_mean - mean) / np.linalg.norm(mean)),
    )


def _write_refiner(run: Path, folder: Path, model: VAE, images: ImageArray) -> ModelFile | None:
    """Write the graph that refines latents; None where the run has nothing to make it of."""
    if not (run / REFINER).is_file():
        return None
    assert isinstance(model.decoder, Decoder)
    refiner = Refiner(model.decoder, read_refiner(run / REFINER))
    rows = torch.zeros(2, *images.shape[1:], dtype=torch.uint8), torch.zeros(2, model.config.latent_dim)
    graph = trace_graph(refiner, rows, ["pictures", "latents"], ["refined"])
    use_integer_products(graph)
    save_graph(store_as_float16(graph), folder / REFINER_GRAPH)
    check_refiner(refiner, BatchedSession(folder / REFINER_GRAPH), TorchGraphs(model), images)
    return describe_file(folder / REFINER_GRAPH)


def _copy_prior(run: Path, folder: Path) -> ModelFile | None:
    """Take the run's fitted prior along; None where none was fitted."""
    if not (run / PRIOR).is_file():
        return None
    shutil.copyfile(run / PRIOR, folder / PRIOR)
    return describe_file(folder / PRIOR)


def _recipe_record(run: Path, backend: TorchBackend) -> dict[str, Any]:
    """What decided the weights: the run's recipe, with the settings that its prior was really fitted by; none
    of these where the prior does not tell them."""
    recipe = {**backend.recipe.to_dict(), "best_epoch": backend.state["epoch"]}
    if (run / PRIOR).is_file():
        config = PriorConfig.recorded(run / PRIOR)
        del recipe["prior"]
        return recipe if config is None else {**recipe, "prior": config.to_dict()}
    return recipe


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
