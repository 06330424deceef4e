"""Integer products of the refiner's derivatives: large constant matrices in 8 bits, a scale for each row.

A direction that is off by half a percent leads as far, and the refiner keeps no latent that is worse. What
decodes stays in float32. ONNX Runtime's own dynamic quantisation has one scale for all rows of a batch, which
would let a result depend on the others.
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]

LEAST_WEIGHTS = 1 << 18
"""A smaller matrix stays in the cache of a core anyway."""

LARGEST_WEIGHT = 63
"""Weights have seven bits: on x86 without VNNI the sum of two products of eight bits overflows its 16."""

UNIT, ZERO, TINY, AXIS = "integer.unit", "integer.zero", "integer.tiny", "integer.axis"
CONSTANTS: dict[str, Array] = {
    UNIT: np.array(1 / 127, np.float32),
    ZERO: np.array(128, np.uint8),
    TINY: np.array(1e-30, np.float32),
    AXIS: np.array([-1]),
}
"""Values are divided by their row's largest, and 1 becomes 127 above the zero point."""


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
    added: dict[str, Array] = {}
    for node in graph.graph.node:
        name = transposed.get(node.input[1], node.input[1]) if node.op_type == "MatMul" else ""
        if name not in weights or np.prod(weights[name].dims) < LEAST_WEIGHTS:
            nodes.append(node)
            continue
        weight = numpy_helper.to_array(weights[name])
        step = np.abs(weight).max(axis=0) / LARGEST_WEIGHT
        added[f"{name}.integers"] = np.rint(weight / step).astype(np.int8)
        added[f"{name}.scales"] = step.astype(np.float32)
        nodes += _integer_product(node, name, is_transposed=name != node.input[1])
    if added:
        added |= CONSTANTS
    graph.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in added.items())
    outputs = {value.name for value in graph.graph.output}
    read = {name for node in nodes for name in node.input} | outputs
    kept = [node for node in nodes if read & set(node.output)]
    read = {name for node in kept for name in node.input}
    constants = [tensor for tensor in graph.graph.initializer if tensor.name in read]
    del graph.graph.node[:], graph.graph.initializer[:], graph.graph.value_info[:]
    graph.graph.node.extend(kept)
    graph.graph.initializer.extend(constants)


def _integer_product(node: onnx.NodeProto, name: str, *, is_transposed: bool) -> list[onnx.NodeProto]:
    """Nodes that compute what a MatMul does, each row of its values rounded to 8 bits."""
    made: list[onnx.NodeProto] = []

    def make(kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"{node.name}.{len(made)}"
        made.append(helper.make_node(kind, inputs, [output], output, **attributes))
        return output

    values, matrix, scales = node.input[0], f"{name}.integers", f"{name}.scales"
    if is_transposed:
        values, matrix = make("Mul", values, scales), make("Transpose", matrix, perm=[1, 0])
    size = make("Max", make("ReduceMax", make("Abs", values), AXIS, keepdims=1), TINY)
    rounded = make("QuantizeLinear", make("Div", values, size), UNIT, ZERO)
    product = make("Cast", make("MatMulInteger", rounded, matrix, ZERO), to=TensorProto.FLOAT)
    if not is_transposed:
        product = make("Mul", product, scales)
    make("Mul", product, make("Mul", size, UNIT))
    made[-1].output[0] = node.output[0]
    return made
