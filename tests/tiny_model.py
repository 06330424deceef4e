"""A complete model folder with a tiny real encoder and decoder: ONNX Runtime without training."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from app.codes.wire import tag_of
from app.images.arrays import ImageArray
from app.model.atlas import Atlas, Direction, Likeness
from app.model.manifest import (
    AtlasFiles,
    CodeFiles,
    ImageSize,
    Int8Files,
    Int8Loss,
    Manifest,
    ModelFiles,
    Parity,
    describe_file,
    read_model_folder,
    write_manifest,
)
from tests.app.codes.tiny_codes import tiny_tables

WIDTH, HEIGHT = 24, 16
LATENT_DIM = 8
OPSET = 18
CHANNELS = 8
GRID = (HEIGHT // 4, WIDTH // 4)


def write_tiny_model(
    folder: Path,
    *,
    seed: int = 0,
    version: int = 1,
    prior: bool = True,
    refiner: bool = False,
    codes: bool = False,
) -> Path:
    """Write encoder.onnx, decoder.onnx and model.json, with seeded random weights; prior.npz, refiner.onnx
    and codes.npz with codes-filter.onnx where asked.

    Returns:
        the folder, `tiny-vae/<version>` by its manifest: images of 24 x 16, latents of 8.
    """
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.RandomState(seed)
    encoder, decoder = _encoder(random), _decoder(random)
    onnx.save_model(encoder, folder / "encoder.onnx")
    onnx.save_model(decoder, folder / "decoder.onnx")
    if prior:
        _write_prior(folder / "prior.npz", random)
    if refiner:
        onnx.save_model(_refiner(), folder / "refiner.onnx")
    if codes:
        (folder / "codes.npz").write_bytes(tiny_tables().save())
        onnx.save_model(_post_filter(), folder / "codes-filter.onnx")
    weights = [*encoder.graph.initializer, *decoder.graph.initializer]
    manifest = Manifest(
        name="tiny-vae",
        version=version,
        image_size=ImageSize(WIDTH, HEIGHT),
        fit="contain-replicate-blur",
        latent_dim=LATENT_DIM,
        parameters=sum(int(np.prod(weight.dims)) for weight in weights),
        opset=OPSET,
        files=ModelFiles(
            encoder=describe_file(folder / "encoder.onnx"),
            decoder=describe_file(folder / "decoder.onnx"),
            prior=describe_file(folder / "prior.npz") if prior else None,
            refiner=describe_file(folder / "refiner.onnx") if refiner else None,
        ),
        parity=Parity(encoder_mean=0.0, encoder_log_variance=0.0, decoder_grey_levels=0),
        recipe={"seed": seed},
        data={"name": "none"},
        metrics={"psnr": 10.0},
        codes=CodeFiles(
            tag=tag_of(version),
            tables=describe_file(folder / "codes.npz"),
            filter=describe_file(folder / "codes-filter.onnx"),
        )
        if codes
        else None,
    )
    write_manifest(folder, manifest)
    return folder


def add_atlas(folder: Path) -> Atlas:
    """Give a model folder two named directions, a map of 2 x 3 cars, and a likeness by the first number of a
    latent: from 0 on it is a car."""
    directions = tuple(
        Direction(np.eye(LATENT_DIM, dtype=np.float32)[axis], 0.5 + axis, *said)
        for axis, said in enumerate([("Paint", "dark", "light"), ("Shape", "low", "tall")])
    )
    likeness = Likeness([(np.eye(LATENT_DIM, 1, dtype=np.float32), np.zeros(1, np.float32))])
    seeds = np.array([[5, 3, 8], [1, 9, 2]])
    sheet = io.BytesIO()
    Image.fromarray(random_images(6).reshape(2, 3, HEIGHT, WIDTH, 3).swapaxes(1, 2).reshape(32, 72, 3)).save(
        sheet, "WEBP", lossless=True
    )
    atlas = Atlas(directions, likeness, seeds, sheet.getvalue())
    (folder / "atlas.npz").write_bytes(atlas.tables())
    (folder / "map.webp").write_bytes(atlas.sheet)
    files = AtlasFiles(describe_file(folder / "atlas.npz"), describe_file(folder / "map.webp"))
    write_manifest(folder, replace(read_model_folder(folder).manifest, atlas=files))
    return atlas


def add_int8(folder: Path, encoder: bytes, decoder: bytes) -> None:
    """Give a model folder files as its int8 graphs."""
    files = []
    for name, content in (("encoder", encoder), ("decoder", decoder)):
        (folder / f"{name}-int8.onnx").write_bytes(content)
        files.append(describe_file(folder / f"{name}-int8.onnx"))
    manifest = read_model_folder(folder).manifest
    int8 = Int8Files(files[0], files[1], Int8Loss(pictures=9, psnr=-0.01, latents=0.02))
    write_manifest(folder, replace(manifest, files=replace(manifest.files, int8=int8)))


def refined_by_tiny_model(images: ImageArray, latents: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the tiny refiner is to make of images (N, 16, 24, 3) and latents (N, 8)."""
    light = images.reshape(len(images), -1).mean(axis=1, keepdims=True) / 255
    return np.asarray(latents / 2 + light, np.float32)


def filtered_by_tiny_model(layers: NDArray[np.float32], fineness: float) -> ImageArray:
    """What the tiny post-filter is to make of levels (16, 24, 3): a little darker in finer codes."""
    image: ImageArray = np.clip(np.rint(layers - 4 * fineness), 0, 255).astype(np.uint8)
    return image


def random_images(count: int, seed: int = 0) -> ImageArray:
    """(count, 16, 24, 3) uint8 images of noise."""
    return np.random.RandomState(seed).randint(0, 256, (count, HEIGHT, WIDTH, 3), dtype=np.uint8)


def _encoder(random: np.random.RandomState) -> Any:
    features = CHANNELS * GRID[0] * GRID[1]
    nodes = [
        helper.make_node("Cast", ["pictures"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["cast", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["nchw"], perm=[0, 3, 1, 2]),
        _convolution("Conv", "nchw", "conv1"),
        helper.make_node("Relu", ["conv1"], ["relu1"]),
        _convolution("Conv", "relu1", "conv2"),
        helper.make_node("Relu", ["conv2"], ["relu2"]),
        helper.make_node("Flatten", ["relu2"], ["features"]),
        helper.make_node("MatMul", ["features", "mean_weight"], ["mean"]),
        helper.make_node("MatMul", ["features", "log_variance_weight"], ["raw_log_variance"]),
        helper.make_node("Clip", ["raw_log_variance", "lowest", "highest"], ["log_variance"]),
    ]
    initializers = [
        _scalar("scale", 1 / 255),
        _weight(random, "conv1_weight", (CHANNELS, 3, 4, 4)),
        _weight(random, "conv2_weight", (CHANNELS, CHANNELS, 4, 4)),
        _weight(random, "mean_weight", (features, LATENT_DIM)),
        _weight(random, "log_variance_weight", (features, LATENT_DIM)),
        _scalar("lowest", -8),
        _scalar("highest", 2),
    ]
    pictures = helper.make_tensor_value_info("pictures", TensorProto.UINT8, ["N", HEIGHT, WIDTH, 3])
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", LATENT_DIM])
        for name in ("mean", "log_variance")
    ]
    return _model("encoder", nodes, [pictures], outputs, initializers)


def _decoder(random: np.random.RandomState) -> Any:
    features = CHANNELS * GRID[0] * GRID[1]
    nodes = [
        helper.make_node("MatMul", ["latents", "dense_weight"], ["dense"]),
        helper.make_node("Reshape", ["dense", "grid"], ["features"]),
        _convolution("ConvTranspose", "features", "conv1"),
        helper.make_node("Relu", ["conv1"], ["relu1"]),
        _convolution("ConvTranspose", "relu1", "conv2"),
        helper.make_node("Sigmoid", ["conv2"], ["unit"]),
        helper.make_node("Mul", ["unit", "scale"], ["scaled"]),
        helper.make_node("Round", ["scaled"], ["rounded"]),
        helper.make_node("Cast", ["rounded"], ["cast"], to=TensorProto.UINT8),
        helper.make_node("Transpose", ["cast"], ["pictures"], perm=[0, 2, 3, 1]),
    ]
    initializers = [
        _weight(random, "dense_weight", (LATENT_DIM, features)),
        numpy_helper.from_array(np.array([-1, CHANNELS, *GRID], dtype=np.int64), "grid"),
        _weight(random, "conv1_weight", (CHANNELS, CHANNELS, 4, 4)),
        _weight(random, "conv2_weight", (CHANNELS, 3, 4, 4)),
        _scalar("scale", 255),
    ]
    latents = helper.make_tensor_value_info("latents", TensorProto.FLOAT, ["N", LATENT_DIM])
    pictures = helper.make_tensor_value_info("pictures", TensorProto.UINT8, ["N", HEIGHT, WIDTH, 3])
    return _model("decoder", nodes, [latents], [pictures], initializers)


def _refiner() -> Any:
    """Half the latent and the mean light of its image."""
    nodes = [
        helper.make_node("Cast", ["pictures"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["cast"], ["flat"]),
        helper.make_node("ReduceMean", ["flat", "axis"], ["mean"], keepdims=1),
        helper.make_node("Div", ["mean", "white"], ["light"]),
        helper.make_node("Mul", ["latents", "half"], ["halved"]),
        helper.make_node("Add", ["halved", "light"], ["refined"]),
    ]
    axis = numpy_helper.from_array(np.array([1], dtype=np.int64), "axis")
    pictures = helper.make_tensor_value_info("pictures", TensorProto.UINT8, ["N", HEIGHT, WIDTH, 3])
    latents, refined = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", LATENT_DIM])
        for name in ("latents", "refined")
    )
    return _model(
        "refiner", nodes, [pictures, latents], [refined], [axis, _scalar("white", 255), _scalar("half", 0.5)]
    )


def _post_filter() -> Any:
    """Levels less four times the fineness; of the first layer it adds none."""
    nodes = [
        helper.make_node("Reshape", ["fineness", "column"], ["each"]),
        helper.make_node("Mul", ["each", "four"], ["less"]),
        helper.make_node("Sub", ["layers", "less"], ["darker"]),
        helper.make_node("Mul", ["base", "none"], ["nothing"]),
        helper.make_node("Add", ["darker", "nothing"], ["sum"]),
        helper.make_node("Round", ["sum"], ["rounded"]),
        helper.make_node("Clip", ["rounded", "none", "white"], ["clipped"]),
        helper.make_node("Cast", ["clipped"], ["images"], to=TensorProto.UINT8),
    ]
    initializers = [
        numpy_helper.from_array(np.array([-1, 1, 1, 1], dtype=np.int64), "column"),
        _scalar("four", 4),
        _scalar("none", 0),
        _scalar("white", 255),
    ]
    levels = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", HEIGHT, WIDTH, 3])
        for name in ("layers", "base")
    ]
    fineness = helper.make_tensor_value_info("fineness", TensorProto.FLOAT, ["N"])
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", HEIGHT, WIDTH, 3])
    return _model("post-filter", nodes, [*levels, fineness], [images], initializers)


def _convolution(kind: str, source: str, name: str) -> Any:
    return helper.make_node(
        kind, [source, f"{name}_weight"], [name], kernel_shape=[4, 4], strides=[2, 2], pads=[1, 1, 1, 1]
    )


def _weight(random: np.random.RandomState, name: str, shape: tuple[int, ...]) -> Any:
    """Weights that keep the signal near unit size, so that images differ visibly from one another."""
    fan_in = shape[0] if len(shape) == 2 else shape[1] * shape[2] * shape[3] / 2
    return numpy_helper.from_array(
        (random.standard_normal(shape) * (2 / fan_in) ** 0.5).astype(np.float32), name
    )


def _scalar(name: str, value: float) -> Any:
    return numpy_helper.from_array(np.array(value, dtype=np.float32), name)


def _model(
    name: str, nodes: list[Any], inputs: list[Any], outputs: list[Any], initializers: list[Any]
) -> Any:
    graph = helper.make_graph(nodes, name, inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def _write_prior(path: Path, random: np.random.RandomState) -> None:
    """Two full-covariance Gaussians, of which the first is drawn three times as often."""
    factors = np.tril(random.standard_normal((2, LATENT_DIM, LATENT_DIM)) * 0.3) + np.eye(LATENT_DIM)
    np.savez(
        path,
        weights=np.array([0.75, 0.25]),
        means=random.standard_normal((2, LATENT_DIM)),
        cholesky=factors.astype(np.float32),
    )
