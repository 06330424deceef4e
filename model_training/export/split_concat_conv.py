"""Conv(Concat) as the sum of two Convs, of channel counts that ONNX Runtime has fast kernels for."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

CHANNEL_BLOCK = 16
"""ONNX Runtime's fast convolutions on CPUs take channels by so many with AVX-512, by half as many without."""


def split_concat_convolutions(graph: onnx.ModelProto) -> None:
    """Turn convolutions of many channels concatenated with a few into the sum of two, in place.

    A convolution whose input is a Concat of a multiple of CHANNEL_BLOCK channels and some more runs on ONNX
    Runtime's slow path. Each part's own convolution runs on a fast one, and the results add up to the same.
    """
    weights = {tensor.name: tensor for tensor in graph.graph.initializer}
    producers = {name: node for node in graph.graph.node for name in node.output}
    nodes: list[onnx.NodeProto] = []
    for node in graph.graph.node:
        concat = producers.get(node.input[0]) if node.op_type == "Conv" else None
        channels = None if concat is None else _concat_channels(graph, concat)
        weight = weights.get(node.input[1]) if channels else None
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if (
            concat is None
            or channels is None
            or weight is None
            or attributes.get("group", 1) != 1
            or len(channels) != 2
            or not channels[0] % CHANNEL_BLOCK == 0 < channels[1] % CHANNEL_BLOCK
        ):
            nodes.append(node)
            continue
        kernels = np.split(numpy_helper.to_array(weight), [channels[0]], axis=1)
        weights.pop(weight.name)
        graph.graph.initializer.remove(weight)
        for part, kernel, source in zip("ab", kernels, concat.input, strict=True):
            name = f"{weight.name}.{part}"
            graph.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(kernel), name))
            bias = node.input[2:] if part == "a" else []
            output = f"{node.output[0]}_{part}"
            nodes.append(
                helper.make_node("Conv", [source, name, *bias], [output], f"{node.name}_{part}", **attributes)
            )
        summands = [f"{node.output[0]}_{part}" for part in "ab"]
        nodes.append(helper.make_node("Add", summands, list(node.output), f"{node.name}_sum"))
    used = {name for node in nodes for name in node.input}
    kept = [node for node in nodes if node.op_type != "Concat" or node.output[0] in used]
    del graph.graph.node[:]
    graph.graph.node.extend(kept)


def _concat_channels(graph: onnx.ModelProto, concat: onnx.NodeProto) -> list[int] | None:
    """Channels of each input of a Concat along the channels; None where they are not known."""
    if concat.op_type != "Concat" or [a.i for a in concat.attribute if a.name == "axis"] != [1]:
        return None
    shapes = {info.name: info.type.tensor_type.shape.dim for info in graph.graph.value_info}
    channels = [shapes[name][1].dim_value if name in shapes else 0 for name in concat.input]
    return channels if all(channels) else None
