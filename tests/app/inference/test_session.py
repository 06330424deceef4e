"""Sessions: what they run on, what they run, and which graphs they refuse."""

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from app.errors import ModelFolderError, ProviderUnavailable
from app.inference.session import (
    CPU,
    CUDA,
    GraphSpec,
    Session,
    SessionSpec,
    TensorSpec,
    decoder_graph,
    encoder_graph,
    open_sessions,
    refiner_graph,
)
from app.model.manifest import Int8Files, Int8Loss, Manifest, read_model_folder
from tests.tiny_model import random_images, refined_by_tiny_model, write_tiny_model

ON_CPU = SessionSpec("cpu", max_batch_rows=4)

without_cuda = pytest.mark.skipif(CUDA in ort.get_available_providers(), reason="this ONNX Runtime has CUDA")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def manifest(folder: Path) -> Manifest:
    return read_model_folder(folder).manifest


@pytest.fixture
def models(folder: Path, manifest: Manifest) -> dict[GraphSpec, bytes]:
    return {
        encoder_graph(manifest): (folder / "encoder.onnx").read_bytes(),
        decoder_graph(manifest): (folder / "decoder.onnx").read_bytes(),
    }


def identity(dim: int | str = 2, rows: int | str = "N", outputs: tuple[str, ...] = ("y",)) -> bytes:
    """A graph that gives its input x unchanged as each of its outputs."""
    tensors = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [rows, dim]) for name in outputs]
    nodes = [helper.make_node("Identity", ["x"], [name]) for name in outputs]
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [rows, dim])
    model = helper.make_model(
        helper.make_graph(nodes, "identity", [x], tensors),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    return bytes(model.SerializeToString())


def identity_spec(dim: int = 2) -> GraphSpec:
    return GraphSpec(
        "identity.onnx", (TensorSpec("x", "float32", (dim,)),), (TensorSpec("y", "float32", (dim,)),)
    )


def test_runs_any_number_of_rows(models: dict[GraphSpec, bytes]) -> None:
    encoder, decoder = open_sessions(models, ON_CPU)
    for count in (1, 2, 3, 4):
        mean, log_variance = encoder.run(random_images(count))
        assert mean.shape == log_variance.shape == (count, 8)
        (images,) = decoder.run(mean)
        assert images.shape == (count, 16, 24, 3)
        assert images.dtype == np.uint8


def test_outputs_come_in_the_order_of_the_spec(models: dict[GraphSpec, bytes]) -> None:
    encoder, _ = open_sessions(models, ON_CPU)
    inner = ort.InferenceSession(next(iter(models.values())), providers=[CPU])
    images = random_images(2)
    mean, log_variance = inner.run(["mean", "log_variance"], {"pictures": images})
    np.testing.assert_allclose(encoder.run(images)[0], mean, rtol=1e-5)
    np.testing.assert_allclose(encoder.run(images)[1], log_variance, rtol=1e-5)


def test_results_of_one_run_outlive_the_next(models: dict[GraphSpec, bytes]) -> None:
    encoder, _ = open_sessions(models, ON_CPU)
    (mean, _), kept = encoder.run(random_images(2)), encoder.run(random_images(2))[0].copy()
    encoder.run(random_images(2, seed=1))
    np.testing.assert_array_equal(mean, kept)


def test_batches_are_padded_to_the_next_allowed_size_and_cut_again() -> None:
    sizes = []

    class Recording(ort.InferenceSession):  # type: ignore[misc]
        def run(self, names: list[str], feed: dict[str, NDArray[Any]]) -> Any:
            sizes.append(len(feed["x"]))
            return super().run(names, feed)

    inner = Recording(identity(), providers=[CPU])
    session = Session(identity_spec(), inner, 6, (1, 2, 4, 6))
    for count in range(1, 7):
        rows = np.arange(2 * count, dtype=np.float32).reshape(count, 2)
        (result,) = session.run(rows)
        np.testing.assert_array_equal(result, rows)
    assert sizes == [1, 2, 4, 4, 6, 6]


def test_every_input_is_padded(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path, refiner=True)
    read = read_model_folder(folder)
    assert read.manifest.files.refiner is not None
    graph = refiner_graph(read.manifest, read.manifest.files.refiner)
    inner = ort.InferenceSession(folder / "refiner.onnx", providers=[CPU])
    session = Session(graph, inner, 4, (4,))
    images, latents = random_images(3), np.ones((3, 8), np.float32)
    (refined,) = session.run(images, latents)
    np.testing.assert_allclose(refined, refined_by_tiny_model(images, latents), atol=1e-5)


def test_reports_the_provider_it_runs_on(
    models: dict[GraphSpec, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "app.inference.session"):
        encoder, decoder = open_sessions(models, ON_CPU)
    assert encoder.provider == decoder.provider == CPU
    assert "encoder.onnx runs on CPUExecutionProvider, warmed up in" in caplog.text


@without_cuda
def test_cuda_is_refused_where_there_is_none(models: dict[GraphSpec, bytes]) -> None:
    with pytest.raises(ProviderUnavailable, match="install onnxruntime-gpu"):
        open_sessions(models, replace(ON_CPU, device="cuda"))


@without_cuda
def test_auto_takes_the_cpu_and_says_so(
    models: dict[GraphSpec, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "app.inference.session"):
        encoder, _ = open_sessions(models, replace(ON_CPU, device="auto"))
    assert encoder.provider == CPU
    (line,) = (record for record in caplog.records if "running on the CPU" in record.getMessage())
    assert line.levelno == logging.INFO


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_int8_runs_on_the_cpu(
    models: dict[GraphSpec, bytes], device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.inference.session._load_cuda", lambda: pytest.fail("CUDA was tried"))
    encoder, decoder = open_sessions(models, replace(ON_CPU, device=device, precision="int8"))
    assert encoder.provider == decoder.provider == CPU


def test_int8_is_refused_on_cuda_in_one_line(models: dict[GraphSpec, bytes]) -> None:
    with pytest.raises(ProviderUnavailable, match="int8 graphs are for CPUs; set CAR_VAE_PREC") as caught:
        open_sessions(models, replace(ON_CPU, device="cuda", precision="int8"))
    assert "\n" not in str(caught.value)


def test_the_graphs_are_named_after_the_files_of_the_precision(manifest: Manifest) -> None:
    file = manifest.files.encoder
    int8 = Int8Files(
        replace(file, path="e8.onnx"),
        replace(file, path="d8.onnx"),
        Int8Loss(pictures=1, psnr=0.0, latents=0.0),
    )
    both = replace(manifest, files=replace(manifest.files, int8=int8))
    assert [graph(both).name for graph in (encoder_graph, decoder_graph)] == ["encoder.onnx", "decoder.onnx"]
    assert [graph(both, "int8").name for graph in (encoder_graph, decoder_graph)] == ["e8.onnx", "d8.onnx"]
    assert encoder_graph(both, "int8").inputs == encoder_graph(both).inputs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent_dim": 9}, r"mean float32 \[N, 8\].*but the manifest asks for.*mean float32 \[N, 9\]"),
        ({"image_size": {"width": 24, "height": 32}}, r"pictures uint8 \[N, 16, 24, 3\].*\[N, 32, 24, 3\]"),
    ],
)
def test_a_graph_of_another_shape_is_refused(
    manifest: Manifest, models: dict[GraphSpec, bytes], change: dict[str, Any], message: str
) -> None:
    if "image_size" in change:
        change = {"image_size": replace(manifest.image_size, **change["image_size"])}
    graph = encoder_graph(replace(manifest, **change))
    with pytest.raises(ModelFolderError, match=message) as caught:
        open_sessions({graph: next(iter(models.values()))}, ON_CPU)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (identity(dim=3), r"x float32 \[N, 3\]"),
        (identity(rows=1), r"x float \[1, 2\]"),
        (identity(dim="M"), r"x float \['N', 'M'\]"),
        (identity(outputs=("z",)), r"to z float32"),
        (identity(outputs=("y", "z")), r"to y float32 \[N, 2\], z float32 \[N, 2\]"),
    ],
)
def test_other_inputs_or_outputs_are_refused(model: bytes, found: str) -> None:
    with pytest.raises(ModelFolderError, match=rf"identity\.onnx maps .*{found}.*the manifest asks for"):
        open_sessions({identity_spec(): model}, ON_CPU)


@pytest.mark.parametrize("model", [b"", b"garbage", identity()[:-20]])
@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_what_is_no_graph_is_refused_in_one_line(model: bytes, device: Any) -> None:
    with pytest.raises(ModelFolderError, match=r"identity\.onnx cannot be run") as caught:
        open_sessions({identity_spec(): model}, replace(ON_CPU, device=device))
    assert "\n" not in str(caught.value)


def test_weights_outside_the_verified_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = numpy_helper.from_array(np.eye(64, dtype=np.float32), "w")
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 64]) for name in "xy")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "matmul", [x], [y], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save_model(model, tmp_path / "inside.onnx")
    onnx.save_model(
        model, tmp_path / "outside.onnx", save_as_external_data=True, location="weights", size_threshold=0
    )
    monkeypatch.chdir(tmp_path)
    assert os.path.exists("weights")
    open_sessions({identity_spec(64): (tmp_path / "inside.onnx").read_bytes()}, ON_CPU)
    with pytest.raises(ModelFolderError, match=r"identity\.onnx cannot be run"):
        open_sessions({identity_spec(64): (tmp_path / "outside.onnx").read_bytes()}, ON_CPU)
