"""Integer products of the refiner's derivatives: large constant matrices in 8 bits, each row with its own scale.

A direction that is off by half a percent leads as far, and the refiner keeps no latent that is worse. What
decodes stays in float32. ONNX Runtime's own dynamic quantisation has one scale for all rows of a batch, which
would let a result depend on the others.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LEAST_WEIGHTS = 1 << 18
"""A smaller matrix stays in the cache of a core anyway."""

LARGEST_WEIGHT, LARGEST_VALUE = 63, 127
"""Weights have seven bits: on x86 without VNNI the sum of two products of eight bits overflows its 16."""

ZERO = 128


def use_integer_products(graph: onnx.ModelProto) -> None:
    """Turn each MatMul by a large initializer, or by the transpose of one, into an integer product, in place.

    Where a matrix is used both ways its integers are stored once, with a scale per column; for the transpose
    these scales belong to the values that it multiplies.
    """
    weights = {tensor.name: tensor for tensor in graph.graph.initializer}
    transposed = {
        node.output[0]: node.input[0]
        for node in graph.graph.node
        if node.op_type == "Transpose" and node.input[0] in weights
    }
    nodes: list[onnx.NodeProto] = []
    added: dict[str, onnx.TensorProto] = {
        name: numpy_helper.from_array(np.array(value, kind), name)
        for name, value, kind in (
            ("integer.unit", 1 / LARGEST_VALUE, np.float32),
            ("integer.zero", ZERO, np.uint8),
            ("integer.tiny", 1e-30, np.float32),
            ("integer.axis", [-1], np.int64),
        )
    }
    for node in graph.graph.node:
        name = transposed.get(node.input[1], node.input[1]) if node.op_type == "MatMul" else ""
        if name not in weights or np.prod(weights[name].dims) < LEAST_WEIGHTS:
            nodes.append(node)
            continue
        integers, scales = f"{name}.integers", f"{name}.scales"
        if integers not in added:
            weight = numpy_helper.to_array(weights[name])
            step = np.abs(weight).max(axis=0) / LARGEST_WEIGHT
            rounded = np.rint(weight / step).astype(np.int8)
            added[integers] = numpy_helper.from_array(rounded, integers)
            added[scales] = numpy_helper.from_array(step.astype(np.float32), scales)
        nodes += _integer_product(node, integers, scales, is_transposed=name != node.input[1])
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    if len(added) > 4:
        graph.graph.initializer.extend(added.values())
    used = {name for node in graph.graph.node for name in node.input}
    outputs = {value.name for value in graph.graph.output}
    kept = [node for node in graph.graph.node if used & set(node.output) or outputs & set(node.output)]
    del graph.graph.node[:], graph.graph.value_info[:]
    graph.graph.node.extend(kept)


def _integer_product(
    node: onnx.NodeProto, integers: str, scales: str, *, is_transposed: bool
) -> list[onnx.NodeProto]:
    """Nodes that compute what a MatMul does, each row of its values rounded to 8 bits."""
    made: list[onnx.NodeProto] = []

    def make(kind: str, inputs: list[str], **attributes: object) -> str:
        output = f"{node.name}.{len(made)}"
        made.append(helper.make_node(kind, inputs, [output], output, **attributes))
        return output

    values, matrix = node.input[0], integers
    if is_transposed:
        values = make("Mul", [values, scales])
        matrix = make("Transpose", [integers], perm=[1, 0])
    size = make("Abs", [values])
    size = make("ReduceMax", [size, "integer.axis"], keepdims=1)
    size = make("Max", [size, "integer.tiny"])
    values = make("Div", [values, size])
    values = make("QuantizeLinear", [values, "integer.unit", "integer.zero"])
    product = make("MatMulInteger", [values, matrix, "integer.zero"])
    product = make("Cast", [product], to=TensorProto.FLOAT)
    product = make("Mul", [product, size])
    product = make("Mul", [product, "integer.unit"] if is_transposed else [product, scales])
    if not is_transposed:
        product = make("Mul", [product, "integer.unit"])
    made[-1].output[0] = node.output[0]
    return made
