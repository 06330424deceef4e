"""int8 graphs: the rewrite is exact, what should be integer is, and little is lost."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional as F

from app.images.arrays import ImageArray
from model_training.export.quantise import convolution_weight, quantise, rewrite_transposed_convolutions

CHANNELS, LATENT_DIM, HEIGHT, WIDTH = 8, 5, 8, 12


def initial(random: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 100
    values: NDArray[np.float32] = random.standard_normal(shape, np.float32) * np.float32((2 / fan_in) ** 0.5)
    return values


def model(
    nodes: list[onnx.NodeProto],
    tensors: dict[str, Any],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    for number, node in enumerate(nodes):
        node.name = f"node{number}"
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def doubling(source: str, name: str, result: str) -> onnx.NodeProto:
    return helper.make_node(
        "ConvTranspose",
        [source, f"{name}.weight", f"{name}.bias"],
        [result],
        kernel_shape=[4, 4],
        strides=[2, 2],
        pads=[1, 1, 1, 1],
    )


@pytest.fixture(scope="module")
def decoder() -> onnx.ModelProto:
    """Two transposed convolutions, and a linear way past them that joins before a third."""
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gemm", ["latents", "dense", "dense.bias"], ["grid"]),
        helper.make_node("Reshape", ["grid", "grid.shape"], ["features"]),
        doubling("features", "first", "up"),
        helper.make_node("LeakyRelu", ["up"], ["active"], alpha=0.1),
        doubling("active", "second", "up2"),
        helper.make_node("Gemm", ["latents", "linear"], ["small"]),
        helper.make_node("Reshape", ["small", "small.shape"], ["coarse"]),
        helper.make_node("Concat", ["up2", "coarse"], ["joined"], axis=1),
        doubling("joined", "last", "logits"),
        helper.make_node("Clip", ["logits", "zero", "one"], ["unit"]),
        helper.make_node("Mul", ["unit", "white"], ["scaled"]),
        helper.make_node("Round", ["scaled"], ["round"]),
        helper.make_node("Cast", ["round"], ["bytes"], to=TensorProto.UINT8),
        helper.make_node("Transpose", ["bytes"], ["pictures"], perm=[0, 2, 3, 1]),
    ]
    tensors = {
        "dense": initial(random, LATENT_DIM, CHANNELS * 6) * 2,
        "dense.bias": initial(random, CHANNELS * 6),
        "linear": initial(random, LATENT_DIM, 3 * 8 * 12),
        "first.weight": initial(random, CHANNELS, CHANNELS, 4, 4),
        "first.bias": initial(random, CHANNELS),
        "second.weight": initial(random, CHANNELS, 4, 4, 4),
        "second.bias": initial(random, 4),
        "last.weight": initial(random, 7, 3, 4, 4),
        "last.bias": np.full(3, 0.5, np.float32),
        "grid.shape": np.array([-1, CHANNELS, 2, 3]),
        "small.shape": np.array([-1, 3, 8, 12]),
        "zero": np.float32(0),
        "one": np.float32(1),
        "white": np.float32(255),
    }
    latents = helper.make_tensor_value_info("latents", TensorProto.FLOAT, ["N", LATENT_DIM])
    images = helper.make_tensor_value_info("pictures", TensorProto.UINT8, ["N", 16, 24, 3])
    return model(nodes, tensors, [latents], [images])


@pytest.fixture(scope="module")
def encoder() -> onnx.ModelProto:
    """A residual convolution, and ways from the pooled images to the mean and the variance."""
    random = np.random.default_rng(1)
    nodes = [
        helper.make_node("Transpose", ["pictures"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["cast", "white"], ["unit"]),
        helper.make_node(
            "Conv",
            ["unit", "down.weight", "down.bias"],
            ["down"],
            kernel_shape=[4, 4],
            strides=[2, 2],
            pads=[1, 1, 1, 1],
        ),
        helper.make_node("LeakyRelu", ["down"], ["active"], alpha=0.1),
        helper.make_node("Conv", ["active", "same.weight"], ["same"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["active", "same"], ["sum"]),
        helper.make_node("Flatten", ["sum"], ["features"]),
        helper.make_node("Gemm", ["features", "head"], ["deep"]),
        helper.make_node("AveragePool", ["unit"], ["pool"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["pool"], ["coarse"]),
        helper.make_node("Gemm", ["coarse", "linear"], ["shallow"]),
        helper.make_node("Add", ["deep", "shallow"], ["mean"]),
        helper.make_node("Gemm", ["coarse", "dense"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["positive"]),
        helper.make_node("Gemm", ["positive", "head2"], ["log_variance"]),
    ]
    features = CHANNELS * HEIGHT * WIDTH // 4
    tensors = {
        "down.weight": initial(random, CHANNELS, 3, 4, 4),
        "down.bias": initial(random, CHANNELS),
        "same.weight": initial(random, CHANNELS, CHANNELS, 3, 3),
        "head": initial(random, features, LATENT_DIM),
        "dense": initial(random, 3 * HEIGHT * WIDTH // 4, 16),
        "head2": initial(random, 16, LATENT_DIM),
        "linear": initial(random, 3 * HEIGHT * WIDTH // 4, LATENT_DIM),
        "white": np.float32(255),
    }
    images = helper.make_tensor_value_info("pictures", TensorProto.UINT8, ["N", HEIGHT, WIDTH, 3])
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", LATENT_DIM])
        for name in ("mean", "log_variance")
    ]
    return model(nodes, tensors, [images], outputs)


def run(graph: onnx.ModelProto, rows: NDArray[Any]) -> list[NDArray[Any]]:
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    results: list[NDArray[Any]] = session.run(None, {graph.graph.input[0].name: rows})
    return results


def kinds(graph: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in graph.graph.node]


def optimised(graph: onnx.ModelProto, path: Any) -> list[str]:
    """The operators that ONNX Runtime really runs."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3  # else it warns that what it writes is for this machine
    onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return kinds(onnx.load(path))


def latents(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(2).standard_normal((count, LATENT_DIM)).astype(np.float32)


def images(count: int) -> ImageArray:
    return np.random.default_rng(3).integers(0, 256, (count, HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.mark.parametrize(("channels_in", "channels_out"), [(1, 1), (5, 3), (16, 8)])
def test_the_convolution_computes_what_the_transposed_one_does(channels_in: int, channels_out: int) -> None:
    torch.manual_seed(0)
    features, weight = torch.randn(2, channels_in, 5, 7), torch.randn(channels_in, channels_out, 4, 4)
    expected = F.conv_transpose2d(features, weight, stride=2, padding=1)
    plain = torch.from_numpy(convolution_weight(weight.numpy()))
    found = F.pixel_shuffle(F.conv2d(features, plain, padding=1), 2)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 if channels_in == 16 else 1e-5)


def test_a_rewritten_graph_gives_the_same_numbers(decoder: onnx.ModelProto) -> None:
    before = onnx.ModelProto()
    before.CopyFrom(decoder)
    before.graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3, 16, 24]))
    after = onnx.ModelProto()
    after.CopyFrom(before)
    rewrite_transposed_convolutions(after)
    assert kinds(after).count("DepthToSpace") == 2
    assert kinds(after).count("ConvTranspose") == 1, "the one that makes the images stays"
    active = kinds(after).index("LeakyRelu")
    assert kinds(after)[active - 1 : active + 2] == ["Conv", "LeakyRelu", "DepthToSpace"]
    expected, found = run(before, latents(16))[1], run(after, latents(16))[1]
    assert expected.std() > 0.1
    assert np.abs(found - expected).max() < 1e-5


def test_other_transposed_convolutions_stay(decoder: onnx.ModelProto) -> None:
    other = onnx.ModelProto()
    other.CopyFrom(decoder)
    for node in other.graph.node:
        for attribute in node.attribute:
            if attribute.name == "pads":
                attribute.ints[:] = [0, 0, 2, 2]
    rewrite_transposed_convolutions(other)
    assert kinds(other) == kinds(decoder)


def test_the_encoder_is_integer_from_the_images_to_the_heads(encoder: onnx.ModelProto, tmp_path: Any) -> None:
    found = optimised(quantise(encoder, images(40)), tmp_path / "optimised.onnx")
    assert not {"Cast", "Div", "QuantizeLinear", "Conv", "Gemm"} & set(found)
    assert found.count("QLinearConv") == 2
    assert found.count("QGemm") == 4
    assert "DequantizeLinear" not in found, "the heads give float"


def test_the_decoder_is_integer_up_to_what_makes_the_images(decoder: onnx.ModelProto, tmp_path: Any) -> None:
    found = optimised(quantise(decoder, latents(40)), tmp_path / "optimised.onnx")
    assert "Conv" not in found
    assert found.count("QLinearConv") == 2
    assert found.count("Gemm") == 2, "rounding latents would show"
    assert found.count("ConvTranspose") == 1


def test_int8_graphs_lose_little(encoder: onnx.ModelProto, decoder: onnx.ModelProto) -> None:
    seen, unseen = np.split(images(80), 2)
    for expected, found in zip(run(encoder, unseen), run(quantise(encoder, seen), unseen), strict=True):
        assert np.linalg.norm(found - expected) < 0.05 * np.linalg.norm(expected)
    drawn, others = np.split(latents(80), 2)
    expected, found = (run(graph, others)[0].astype(int) for graph in (decoder, quantise(decoder, drawn)))
    assert expected.std() > 20
    assert np.abs(found - expected).mean() < 3


def test_latents_beyond_the_calibration_are_not_cut_off(decoder: onnx.ModelProto) -> None:
    seen = latents(40)
    far = 1.4 * seen[[np.abs(seen).max(axis=1).argmax()]]
    expected, cut = (run(decoder, rows)[0].astype(int) for rows in (far, far.clip(seen.min(), seen.max())))
    found = run(quantise(decoder, seen), far)[0].astype(int)
    assert np.abs(found - expected).mean() < np.abs(cut - expected).mean()


def test_weights_leave_a_bit_for_machines_without_vnni(encoder: onnx.ModelProto) -> None:
    weights = [
        numpy_helper.to_array(tensor)
        for tensor in quantise(encoder, images(10)).graph.initializer
        if tensor.data_type == TensorProto.INT8 and len(tensor.dims) > 1
    ]
    assert len(weights) == 6
    assert all(32 < np.abs(weight.astype(int)).max() <= 64 for weight in weights)


def test_the_same_input_gives_the_same_graph(decoder: onnx.ModelProto) -> None:
    before = decoder.SerializeToString()
    graphs = [quantise(decoder, latents(10)).SerializeToString() for _ in range(2)]
    assert graphs[0] == graphs[1]
    assert decoder.SerializeToString() == before
