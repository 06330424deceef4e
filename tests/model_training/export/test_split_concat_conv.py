"""Conv(Concat) as the sum of two Convs: where it is done, to the same numbers, and where it is not."""

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from model_training.export.split_concat_conv import split_concat_convolutions

SIZE = 6


def concat_convolution(*channels: int, axis: int = 1) -> onnx.ModelProto:
    """One input for each number of channels, concatenated and convolved to 5 channels."""
    random = np.random.default_rng(0)
    names = [f"x{index}" for index in range(len(channels))]
    depth = sum(channels) if axis == 1 else channels[0]
    weights = [
        numpy_helper.from_array(values.astype(np.float32), name)
        for name, values in (("w", random.standard_normal((5, depth, 3, 3))), ("b", random.random(5)))
    ]
    nodes = [
        *(helper.make_node("Relu", [name], [f"{name}_r"], f"relu_{name}") for name in names),
        helper.make_node("Concat", [f"{name}_r" for name in names], ["joined"], "concat", axis=axis),
        helper.make_node("Conv", ["joined", "w", "b"], ["y"], "conv", kernel_shape=[3, 3], pads=[1] * 4),
    ]
    inputs = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", count, SIZE, SIZE])
        for name, count in zip(names, channels, strict=True)
    ]
    output = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "graph", inputs, [output], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


def run(model: onnx.ModelProto, channels: tuple[int, ...]) -> NDArray[np.float32]:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(1)
    feeds = {
        f"x{index}": random.standard_normal((2, count, SIZE, SIZE), np.float32)
        for index, count in enumerate(channels)
    }
    result: NDArray[np.float32] = session.run(["y"], feeds)[0]
    return result


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node if node.op_type != "Relu"]


def test_many_channels_and_a_few_are_convolved_apart_to_the_same_result() -> None:
    model = concat_convolution(32, 3)
    expected = run(model, (32, 3))
    split_concat_convolutions(model)
    assert kinds(model) == ["Conv", "Conv", "Add"]
    assert sorted(tensor.name for tensor in model.graph.initializer) == ["b", "w.a", "w.b"]
    np.testing.assert_allclose(run(model, (32, 3)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [(32, 16), (3, 4), (16, 16, 3)])
def test_other_concatenations_stay_as_they_are(channels: tuple[int, ...]) -> None:
    model = concat_convolution(*channels)
    before = model.SerializeToString(deterministic=True)
    split_concat_convolutions(model)
    assert model.SerializeToString(deterministic=True) == before


def test_what_is_concatenated_along_another_axis_stays_as_it_is() -> None:
    model = concat_convolution(35, 35, axis=2)
    split_concat_convolutions(model)
    assert kinds(model) == ["Concat", "Conv"]


def test_a_concatenation_that_something_else_reads_too_stays_for_it() -> None:
    model = concat_convolution(16, 1)
    model.graph.node.append(helper.make_node("Neg", ["joined"], ["other"], "neg"))
    model.graph.output.append(helper.make_tensor_value_info("other", onnx.TensorProto.FLOAT, None))
    split_concat_convolutions(model)
    assert kinds(model) == ["Concat", "Conv", "Conv", "Add", "Neg"]
