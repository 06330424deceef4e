import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from app.images.arrays import ImageArray
from app.model.manifest import read_manifest
from model_training.backends.onnx_backend import OnnxBackend
from model_training.backends.torch_backend import TorchBackend
from model_training.export import model_folder as export_module
from model_training.export.model_folder import MAX_INT8_LOSS, export_run
from model_training.export.onnx_graph import fold_batch_norms, store_as_float16
from model_training.export.parity import ParityError
from model_training.networks.vae import parameter_count


def run_export(run: Path, target: Path, pictures: ImageArray) -> None:
    export_run(
        run,
        target,
        name="car-vae",
        version=3,
        images=pictures,
        data={"trained_on": "cars"},
        metrics={"psnr": 9.0},
    )


def test_the_exported_graphs_compute_what_torch_computes(
    run_folder: Path, other_cars: ImageArray, tmp_path: Path
) -> None:
    run_export(run_folder, tmp_path / "models" / "3", other_cars)
    served, trained = OnnxBackend(tmp_path / "models" / "3"), TorchBackend(run_folder)
    for count in (1, 3, len(other_cars)):
        mean, log_variance = served.encode(other_cars[:count])
        expected_mean, expected_log_variance = trained.encode(other_cars[:count])
        np.testing.assert_allclose(mean, expected_mean, atol=2e-3)  # weights are rounded to float16
        np.testing.assert_allclose(log_variance, expected_log_variance, atol=2e-3)
        difference = served.decode(mean).astype(int) - trained.decode(mean)
        assert np.abs(difference).max() <= 1
    assert served.decode(mean).std() > 10, "the pictures are blank"


def test_the_manifest_says_what_was_exported(
    run_folder: Path, other_cars: ImageArray, tmp_path: Path
) -> None:
    target = tmp_path / "models" / "3"
    run_export(run_folder, target, other_cars)
    manifest = read_manifest(target)
    backend = TorchBackend(run_folder)
    assert manifest.id == "car-vae/3"
    assert (manifest.image_size.width, manifest.image_size.height, manifest.latent_dim) == (24, 16, 6)
    assert manifest.parameters == parameter_count(backend.model)
    assert manifest.recipe["best_epoch"] == backend.state["epoch"]
    assert manifest.data == {"trained_on": "cars"}
    assert 0 < manifest.parity.encoder_mean < 1e-4
    assert sorted(path.name for path in target.iterdir()) == [
        *("decoder-int8.onnx", "decoder.onnx", "encoder-int8.onnx", "encoder.onnx", "model.json")
    ]


def test_no_batch_norm_is_left_in_the_graphs(
    run_folder: Path, other_cars: ImageArray, tmp_path: Path
) -> None:
    run_export(run_folder, tmp_path / "3", other_cars)
    kinds = {
        node.op_type
        for name in ("encoder", "decoder")
        for node in onnx.load(tmp_path / "3" / f"{name}.onnx").graph.node
    }
    assert {"Conv", "ConvTranspose", "LeakyRelu"} <= kinds
    assert "BatchNormalization" not in kinds


def test_the_graphs_do_not_tell_where_they_were_made(
    run_folder: Path, other_cars: ImageArray, tmp_path: Path
) -> None:
    run_export(run_folder, tmp_path / "3", other_cars)
    for name in ("encoder", "decoder"):
        content = (tmp_path / "3" / f"{name}.onnx").read_bytes()
        assert str(Path(__file__).parent).encode() not in content
        assert b"stack_trace" not in content


def test_folding_changes_nothing_but_the_layers(run_folder: Path) -> None:
    model = TorchBackend(run_folder).model
    folded = fold_batch_norms(model)
    pictures = torch.rand(4, 3, 16, 24)
    expected = model.encoder(pictures)
    torch.testing.assert_close(folded.encoder(pictures), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        folded.decoder(expected.mean), model.decoder(expected.mean), rtol=1e-4, atol=1e-5
    )
    assert parameter_count(folded) < parameter_count(model)


def test_a_difference_beyond_the_tolerance_writes_nothing_and_keeps_what_was_there(
    run_folder: Path, other_cars: ImageArray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "models" / "3"
    run_export(run_folder, target, other_cars)
    before = (target / "model.json").read_bytes()
    monkeypatch.setattr(export_module, "fold_batch_norms", lambda model: skew(fold_batch_norms(model)))
    for folder in (target, tmp_path / "models" / "4"):
        with pytest.raises(ParityError, match="differs from PyTorch"):
            run_export(run_folder, folder, other_cars)
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["3"]
    assert (target / "model.json").read_bytes() == before


def test_a_new_export_keeps_the_card_and_takes_the_prior_along(
    run_folder: Path, other_cars: ImageArray, tmp_path: Path
) -> None:
    target = tmp_path / "3"
    run_export(run_folder, target, other_cars)
    (target / "README.md").write_text("# The card\n")
    (run_folder / "prior.npz").write_bytes(b"prior")
    run_export(run_folder, target, other_cars)
    assert (target / "README.md").read_text() == "# The card\n"
    assert (target / "prior.npz").read_bytes() == b"prior"
    assert json.loads((target / "model.json").read_text())["files"]["prior"]["bytes"] == 5


def test_batch_norm_folds_wherever_it_is() -> None:
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
    pictures = torch.rand(2, 3, 8, 8)
    folded = fold_batch_norms(layers)
    torch.testing.assert_close(folded(pictures), layers.eval()(pictures), rtol=1e-4, atol=1e-5)
    left = [layer for layer in folded.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert len(left) == 1, "it follows an activation"


def test_half_precision_weights_are_the_same_numbers_in_half_the_bytes(
    run_folder: Path, other_cars: ImageArray, tmp_path: Path
) -> None:
    run_export(run_folder, tmp_path / "3", other_cars)
    half = onnx.load(tmp_path / "3" / "encoder.onnx")
    kinds = {len(tensor.dims) > 1: tensor.data_type for tensor in half.graph.initializer if tensor.dims}
    assert kinds[True] == onnx.TensorProto.FLOAT16
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(tmp_path / "3" / "encoder.onnx", options, providers=["CPUExecutionProvider"])
    ran = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert ran.count("Cast") == 1, "only the pictures are cast in each run"


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


def test_the_int8_graphs_come_along_with_what_they_cost(
    run_folder: Path, other_cars: ImageArray, tmp_path: Path
) -> None:
    run_export(run_folder, tmp_path / "3", other_cars)
    int8 = read_manifest(tmp_path / "3").files.int8
    assert int8 is not None
    assert (int8.encoder.path, int8.decoder.path) == ("encoder-int8.onnx", "decoder-int8.onnx")
    assert int8.loss.pictures == len(other_cars) // 2
    assert abs(int8.loss.psnr) <= MAX_INT8_LOSS
    assert 0 < int8.loss.latents < 0.1


def test_int8_graphs_that_lose_too_much_are_left_out_aloud(
    run_folder: Path,
    other_cars: ImageArray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(export_module, "MAX_INT8_LOSS", -10.0)
    with caplog.at_level("WARNING", "model_training.export"):
        run_export(run_folder, tmp_path / "3", other_cars)
    assert read_manifest(tmp_path / "3").files.int8 is None
    assert not list((tmp_path / "3").glob("*int8*"))
    assert re.search(r"no int8 graphs: they would lose -?\d\.\d{3} dB, more than -10\.00 dB", caplog.text)


def skew(model: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        next(model.parameters()).mul_(1.05)
    return model
