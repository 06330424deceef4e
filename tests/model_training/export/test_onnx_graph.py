"""ONNX graphs of modules: folded batch norms, weights in float16, no notes of the exporter."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper
from torch import nn

from model_training.backends.torch_backend import TorchBackend
from model_training.export.onnx_graph import round_to_float16, store_as_float16, trace_graph
from model_training.networks.vae import parameter_count
from model_training.torch_utils import fold_batch_norms


def test_no_batch_norm_is_left_in_the_graphs(exported_model: Path) -> None:
    kinds = {
        node.op_type
        for name in ("encoder", "decoder")
        for node in onnx.load(exported_model / f"{name}.onnx").graph.node
    }
    assert {"Conv", "ConvTranspose", "LeakyRelu"} <= kinds
    assert "BatchNormalization" not in kinds


def test_the_graphs_do_not_tell_where_they_were_made(exported_model: Path) -> None:
    for name in ("encoder", "decoder"):
        content = (exported_model / f"{name}.onnx").read_bytes()
        assert str(Path(__file__).parents[3]).encode() not in content
        assert b"stack_trace" not in content


def test_a_folded_model_computes_the_same_with_fewer_parameters(finished_run: Path) -> None:
    model = TorchBackend(finished_run).model
    folded = fold_batch_norms(model)
    images = torch.rand(4, 3, 16, 24)
    expected = model.encoder(images)
    torch.testing.assert_close(folded.encoder(images), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        folded.decoder(expected.mean), model.decoder(expected.mean), rtol=1e-4, atol=1e-5
    )
    assert parameter_count(folded) < parameter_count(model)


def test_batch_norms_fold_into_the_layer_before_them_wherever_it_is() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        ),
        nn.ModuleDict({"up": nn.Sequential(nn.ConvTranspose2d(4, 5, 4), nn.BatchNorm2d(5))})["up"],
        nn.Sequential(nn.ReLU(), nn.BatchNorm2d(5), nn.Flatten()),
        nn.Sequential(nn.Linear(405, 6, bias=False), nn.BatchNorm1d(6)),
    )
    with torch.no_grad():
        for layer in layers.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                for values in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                    assert values is not None
                    values.uniform_(0.5, 1.5)
    images = torch.rand(2, 3, 8, 8)
    folded = fold_batch_norms(layers)
    torch.testing.assert_close(folded(images), layers.eval()(images), rtol=1e-4, atol=1e-5)
    left = [layer for layer in folded.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert len(left) == 1, "it follows an activation"


def test_half_precision_weights_are_the_same_numbers_in_half_the_bytes(
    exported_model: Path, tmp_path: Path
) -> None:
    half = onnx.load(exported_model / "encoder.onnx")
    kinds = {len(tensor.dims) > 1: tensor.data_type for tensor in half.graph.initializer if tensor.dims}
    assert kinds[True] == onnx.TensorProto.FLOAT16
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(exported_model / "encoder.onnx", options, providers=["CPUExecutionProvider"])
    ran = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert ran.count("Cast") == 1, "only the images are cast in each run"


def test_weights_that_float16_does_not_hold_stay() -> None:
    exact, inexact = (
        numpy_helper.from_array(np.full((2, 2), value, np.float32), name)
        for name, value in (("exact", 0.5), ("inexact", 0.1))
    )
    x, y = (helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["N", 2]) for n in "xy")
    nodes = [
        helper.make_node("MatMul", ["x", "exact"], ["h"]),
        helper.make_node("MatMul", ["h", "inexact"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "graph", [x], [y], [exact, inexact])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    stored = store_as_float16(model)
    assert [tensor.data_type for tensor in stored.graph.initializer] == [
        *(onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT)
    ]
    rows = np.ones((1, 2), np.float32)
    before, after = (
        onnxruntime.InferenceSession(each.SerializeToString(), providers=["CPUExecutionProvider"])
        for each in (model, stored)
    )
    np.testing.assert_array_equal(before.run(None, {"x": rows})[0], after.run(None, {"x": rows})[0])


def test_rounded_matrices_are_what_float16_holds_and_biases_stay() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(3, 4)
    weight, bias = layer.weight.clone(), layer.bias.clone()
    round_to_float16(layer)
    assert torch.equal(layer.weight, weight.half().float())
    assert not torch.equal(layer.weight, weight)
    assert torch.equal(layer.bias, bias)


def test_a_traced_graph_takes_any_number_of_rows_under_the_names_given() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(3, 4)
    graph = trace_graph(layer, (torch.zeros(2, 3),), ["rows"], ["result"])
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    for count in (1, 5):
        rows = np.random.default_rng(count).random((count, 3), dtype=np.float32)
        (found,) = session.run(["result"], {"rows": rows})
        np.testing.assert_allclose(found, layer(torch.from_numpy(rows)).detach().numpy(), atol=1e-6)
