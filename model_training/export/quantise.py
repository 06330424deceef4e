"""Static int8 quantisation of a graph for CPUs, its transposed convolutions turned into sub-pixel ones."""

import contextlib
import copy
import io
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

Rows = NDArray[Any]

PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm"})
"""Where the time goes; other nodes are quantised only where they lead to one of these."""

ACTIVATIONS = frozenset({"LeakyRelu", "Relu", "Sigmoid", "Clip"})

QUANTISED_OPERATORS = (
    *("Conv", "Gemm", "LeakyRelu", "Relu", "Sigmoid", "Clip", "Add", "Concat"),
    *("Reshape", "Flatten", "AveragePool", "DepthToSpace"),
)
"""Operators of which ONNX Runtime has integer kernels for the CPU."""

PERCENTILE = 99.999
"""Of each activation, what lies inside its range: rare extremes would cost all others their resolution."""


def quantise(graph: onnx.ModelProto, rows: Rows) -> onnx.ModelProto:
    """A graph of the same inputs and outputs whose products run in 8-bit integers.

    Activations are uint8. Weights are int8 with a scale per output channel, and of seven bits: on x86 without
    VNNI the sum of two products of eight bits overflows its 16. Images enter as the uint8 they are. A
    transposed convolution that makes the images stays as it is: rounding its few weights costs quality, and
    with all that goes with it its integer form takes as long.

    Args:
        graph: a float32 graph of one input, its weights inside, every node named; it is not changed.
        rows: what to calibrate on, (N, ...) of the graph's input.
    """
    graph = copy.deepcopy(graph)
    rewrite_transposed_convolutions(graph)
    graph = onnx.shape_inference.infer_shapes(graph)
    add_pre_process_metadata(graph)
    name = graph.graph.input[0].name
    ranges: dict[str, list[dict[str, Any]]] = {}
    scaling = _scaling_nodes(graph)
    if scaling:
        grey_levels = {"scale": np.array(1 / 255, np.float32), "zero_point": np.array(0, np.uint8)}
        ranges[scaling[-1].output[0]] = [grey_levels]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder) / "int8.onnx"
        quantize_static(
            graph,
            path,
            _CalibrationRows(name, rows),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED_OPERATORS),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=_nodes_to_quantise(graph),
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={
                "CalibPercentile": PERCENTILE,
                "TensorQuantOverrides": ranges,
            },
        )
        quantised = onnx.load(path)
    _keep_heads_float(quantised)
    _feed_uint8(quantised)
    _drop_unused(quantised)
    del quantised.graph.value_info[:], quantised.metadata_props[:]
    onnx.checker.check_model(quantised, full_check=True)
    return quantised


def rewrite_transposed_convolutions(graph: onnx.ModelProto) -> None:
    """Turn inner transposed convolutions of kernel 4, stride 2, padding 1 into convolutions, in place.

    ONNX Runtime has no integer kernel for the transposed ones. The same numbers come from a convolution of
    kernel 3 to four times the channels, which DepthToSpace then lays out (the sub-pixel convolution of Shi et
    al. 2016). An activation comes before DepthToSpace, next to its convolution.
    """
    weights = {tensor.name: tensor for tensor in graph.graph.initializer}
    consumers = _consumers(graph)
    nodes: list[onnx.NodeProto] = []
    moved: set[str] = set()
    for node in graph.graph.node:
        if node.name in moved:
            continue
        if not (_doubles_size(node) and node.input[1] in weights and _leads_to_product(node, consumers)):
            nodes.append(node)
            continue
        following = consumers[node.output[0]]
        activation = following[0] if len(following) == 1 and following[0].op_type in ACTIVATIONS else None
        result = activation.output[0] if activation else node.output[0]
        _replace_weights(weights, node)
        deep = f"{result}_deep"
        product = node.output[0] if activation else deep
        nodes.append(
            helper.make_node(
                "Conv", list(node.input), [product], node.name, kernel_shape=[3, 3], pads=[1, 1, 1, 1]
            )
        )
        if activation:
            moved.add(activation.name)
            nodes.append(activation)
            activation.output[0] = deep
        nodes.append(
            helper.make_node("DepthToSpace", [deep], [result], f"{node.name}_layout", blocksize=2, mode="CRD")
        )
    copies = [copy.deepcopy(node) for node in nodes]
    del graph.graph.node[:], graph.graph.value_info[:]
    graph.graph.node.extend(copies)


def convolution_weight(transposed: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weight (C_in, C_out, 4, 4) of the transposed convolution -> (4 C_out, C_in, 3, 3) of the plain one.

    Output row 2i + p is made of the input rows i + a - 1 with tap p + 3 - 2a, where there is such a tap; the
    same holds for columns.
    """
    channels_in, channels_out = transposed.shape[:2]
    weight = np.zeros((channels_out, 2, 2, channels_in, 3, 3), np.float32)
    taps = [(p, a, p + 3 - 2 * a) for p in range(2) for a in range(3) if 0 <= p + 3 - 2 * a < 4]
    for p, a, row in taps:
        for q, b, column in taps:
            weight[:, p, q, :, a, b] = transposed[:, :, row, column].T
    return weight.reshape(4 * channels_out, channels_in, 3, 3)


def _replace_weights(weights: dict[str, onnx.TensorProto], node: onnx.NodeProto) -> None:
    weight = weights[node.input[1]]
    weight.CopyFrom(numpy_helper.from_array(convolution_weight(numpy_helper.to_array(weight)), weight.name))
    for name in node.input[2:]:
        bias = weights[name]
        bias.CopyFrom(numpy_helper.from_array(np.repeat(numpy_helper.to_array(bias), 4), name))


def _doubles_size(node: onnx.NodeProto) -> bool:
    """Whether it is a transposed convolution that makes a feature map of exactly twice the size."""
    if node.op_type != "ConvTranspose":
        return False
    found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return (
        found.get("kernel_shape") == [4, 4]
        and found.get("strides") == [2, 2]
        and found.get("pads") == [1, 1, 1, 1]
        and found.get("output_padding", [0, 0]) == [0, 0]
        and found.get("dilations", [1, 1]) == [1, 1]
        and found.get("group", 1) == 1
    )


def _consumers(graph: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    consumers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.graph.node:
        for name in node.input:
            consumers[name].append(node)
    return consumers


def _leads_to_product(node: onnx.NodeProto, consumers: dict[str, list[onnx.NodeProto]]) -> bool:
    return any(
        after.op_type in PRODUCTS or _leads_to_product(after, consumers)
        for name in node.output
        for after in consumers[name]
    )


def _nodes_to_quantise(graph: onnx.ModelProto) -> list[str]:
    """The nodes to quantise: what leads to a product, and products.

    Those that read latents stay as they are, as they cost little and rounding latents shows in images. So do
    the convolutions that read an image which was made of latents without any activation, where one of them
    shows it.
    """
    consumers = _consumers(graph)
    activated = {name for node in graph.graph.node if node.op_type in ACTIVATIONS for name in node.output}
    outside = {node.name for node in _scaling_nodes(graph)}
    source = graph.graph.input[0]
    if source.type.tensor_type.elem_type == TensorProto.FLOAT:
        readers = consumers[source.name]
        outside |= {node.name for node in readers}
        for reshape in (after for node in readers for after in consumers[node.output[0]]):
            shown = consumers[reshape.output[0]]
            if not all(_leads_to_product(node, consumers) for node in shown if node.op_type == "Conv"):
                outside |= {reshape.name, *(node.name for node in shown if node.op_type == "Conv")}
    return [
        node.name
        for node in graph.graph.node
        if node.op_type in QUANTISED_OPERATORS
        and node.name not in outside
        and (
            node.op_type == "Gemm"
            or _leads_to_product(node, consumers)
            or (node.op_type == "Conv" and node.input[0] in activated)
        )
    ]


def _keep_heads_float(graph: onnx.ModelProto) -> None:
    """Take out the rounding of what the heads of an encoder give, which no other product needs."""
    consumers = _consumers(graph)
    for head in graph.graph.node:
        if head.op_type != "Gemm" or _leads_to_product(head, consumers):
            continue
        quantisers = consumers[head.output[0]]
        if [node.op_type for node in quantisers] != ["QuantizeLinear"]:
            continue
        (dequantiser,) = consumers[quantisers[0].output[0]]
        head.output[0] = dequantiser.output[0]
        graph.graph.node.remove(quantisers[0])
        graph.graph.node.remove(dequantiser)


def _scaling_nodes(graph: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes Transpose, Cast and Div by 255 that make floats of images; none where it is otherwise."""
    consumers = _consumers(graph)
    chain: list[onnx.NodeProto] = []
    name = graph.graph.input[0].name
    for kind in ("Transpose", "Cast", "Div"):
        if [node.op_type for node in consumers[name]] != [kind]:
            return []
        chain.append(consumers[name][0])
        name = chain[-1].output[0]
    divisors = [t for t in graph.graph.initializer if t.name == chain[-1].input[1]]
    return chain if [numpy_helper.to_array(t).tolist() for t in divisors] == [255.0] else []


def _feed_uint8(graph: onnx.ModelProto) -> None:
    """Leave out the way to float and back: grey levels are the integers that quantising them would give."""
    chain = _scaling_nodes(graph)
    if not chain:
        return
    consumers = _consumers(graph)
    transpose, *to_float = chain
    quantisers = consumers[to_float[-1].output[0]]
    if any(node.op_type != "QuantizeLinear" for node in quantisers):
        return
    for quantiser in quantisers:
        for node in consumers[quantiser.output[0]]:
            node.input[0] = transpose.output[0]
    for node in (*to_float, *quantisers):
        graph.graph.node.remove(node)


def _drop_unused(graph: onnx.ModelProto) -> None:
    used = {name for node in graph.graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.graph.initializer if tensor.name not in used]:
        graph.graph.initializer.remove(tensor)


class _CalibrationRows(CalibrationDataReader):  # type: ignore[misc]
    """Gives the rows one by one: the calibration cannot put batches of several sizes together."""

    def __init__(self, name: str, rows: Rows) -> None:
        self._feeds: Iterator[dict[str, Rows]] = ({name: row[np.newaxis]} for row in rows)

    def get_next(self) -> dict[str, Rows] | None:
        return next(self._feeds, None)
