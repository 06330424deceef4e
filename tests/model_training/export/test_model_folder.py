"""The model folder that an export writes: what is in it, and what it leaves as it was."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from app.images.arrays import ImageArray
from app.images.quality import psnr
from app.model.manifest import describe_file, read_model_folder
from model_training.backends.onnx_backend import OnnxBackend
from model_training.backends.torch_backend import TorchBackend
from model_training.export import model_folder
from model_training.export.model_folder import MAX_INT8_LOSS
from model_training.export.parity import ParityError
from model_training.networks.vae import parameter_count
from model_training.prior.fit import FittedPrior, Gaussian, save_prior
from model_training.recipe import Recipe
from model_training.refinement.fit import fit_refiner, folded_decoder, save_refiner
from model_training.run_folder import PRIOR, REFINER
from model_training.torch_utils import fold_batch_norms
from tests.model_training.conftest import SMALL_PRIOR, export_cars


def test_the_exported_graphs_compute_what_torch_computes(
    finished_run: Path, exported_model: Path, other_cars: ImageArray
) -> None:
    served, trained = OnnxBackend(exported_model), TorchBackend(finished_run)
    for count in (1, 3, len(other_cars)):
        mean, log_variance = served.encode(other_cars[:count])
        expected_mean, expected_log_variance = trained.encode(other_cars[:count])
        np.testing.assert_allclose(mean, expected_mean, atol=2e-3)  # weights are rounded to float16
        np.testing.assert_allclose(log_variance, expected_log_variance, atol=2e-3)
        difference = served.decode(mean).astype(int) - trained.decode(mean)
        assert np.abs(difference).max() <= 1
    assert served.decode(mean).std() > 10, "the images are blank"


def test_the_manifest_says_what_was_exported(finished_run: Path, exported_model: Path) -> None:
    manifest, backend = read_model_folder(exported_model).manifest, TorchBackend(finished_run)
    assert manifest.id == "car-vae/3"
    assert (manifest.image_size.width, manifest.image_size.height, manifest.latent_dim) == (24, 16, 6)
    assert manifest.parameters == parameter_count(backend.model)
    assert manifest.recipe["best_epoch"] == backend.state["epoch"]
    assert manifest.data == {"trained_on": "cars"}
    assert 0 < manifest.parity.encoder_mean < 1e-4
    assert sorted(path.name for path in exported_model.iterdir()) == [
        *("decoder-int8.onnx", "decoder.onnx", "encoder-int8.onnx", "encoder.onnx", "model.json")
    ]


def test_a_difference_beyond_the_tolerance_writes_nothing_and_keeps_what_was_there(
    run_folder: Path, other_cars: ImageArray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "models" / "3"
    export_cars(run_folder, target, other_cars)
    before = (target / "model.json").read_bytes()
    monkeypatch.setattr(model_folder, "fold_batch_norms", lambda model: skew(fold_batch_norms(model)))
    for folder in (target, tmp_path / "models" / "4"):
        with pytest.raises(ParityError, match="differs from PyTorch"):
            export_cars(run_folder, folder, other_cars)
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["3"]
    assert (target / "model.json").read_bytes() == before


def test_a_new_export_keeps_the_card_and_takes_the_prior_along(
    run_folder: Path, other_cars: ImageArray, tmp_path: Path
) -> None:
    target = tmp_path / "3"
    export_cars(run_folder, target, other_cars)
    (target / "README.md").write_text("# The card\n")
    np.savez(run_folder / "prior.npz", weights=np.ones(1))
    export_cars(run_folder, target, other_cars)
    assert (target / "README.md").read_text() == "# The card\n"
    prior = (run_folder / "prior.npz").read_bytes()
    assert (target / "prior.npz").read_bytes() == prior
    assert json.loads((target / "model.json").read_text())["files"]["prior"]["bytes"] == len(prior)


def test_the_manifest_says_what_the_prior_was_really_fitted_by(
    run_folder: Path, other_cars: ImageArray, tmp_path: Path
) -> None:
    config = dataclasses.replace(SMALL_PRIOR, steps=123)
    gaussian = Gaussian(np.zeros(6), np.eye(6))
    save_prior(FittedPrior(gaussian, {}, {}, config), run_folder / PRIOR)
    export_cars(run_folder, tmp_path / "3", other_cars)
    recipe = Recipe.from_dict(without_epoch(read_model_folder(tmp_path / "3").manifest.recipe))
    assert recipe == dataclasses.replace(TorchBackend(run_folder).recipe, prior=config)


def test_the_manifest_is_silent_on_a_prior_that_does_not_tell_what_it_was_fitted_by(
    run_folder: Path, other_cars: ImageArray, tmp_path: Path
) -> None:
    np.savez(run_folder / PRIOR, weights=np.ones(1))
    export_cars(run_folder, tmp_path / "3", other_cars)
    assert "prior" not in read_model_folder(tmp_path / "3").manifest.recipe


def test_the_manifest_of_a_run_without_a_prior_keeps_its_recipe(
    finished_run: Path, exported_model: Path
) -> None:
    recipe = Recipe.from_dict(without_epoch(read_model_folder(exported_model).manifest.recipe))
    assert recipe == TorchBackend(finished_run).recipe


def test_the_int8_graphs_come_along_with_what_they_cost(exported_model: Path, other_cars: ImageArray) -> None:
    int8 = read_model_folder(exported_model).manifest.files.int8
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
    monkeypatch.setattr(model_folder, "MAX_INT8_LOSS", -10.0)
    with caplog.at_level("WARNING", "model_training.export"):
        export_cars(run_folder, tmp_path / "3", other_cars)
    assert read_model_folder(tmp_path / "3").manifest.files.int8 is None
    assert not list((tmp_path / "3").glob("*int8*"))
    assert re.search(r"no int8 graphs: they would lose -?\d\.\d{3} dB, more than -10\.00 dB", caplog.text)


def without_epoch(recipe: dict[str, object]) -> dict[str, object]:
    """What a manifest says of the recipe itself."""
    return {name: value for name, value in recipe.items() if name != "best_epoch"}


def skew(model: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        next(model.parameters()).mul_(1.05)
    return model


@pytest.fixture
def refinable_run(subpixel_run: Path, cars: ImageArray) -> Path:
    backend = TorchBackend(subpixel_run)
    statistics = fit_refiner(folded_decoder(backend.model), backend.encode(cars)[0])
    save_refiner(statistics, subpixel_run / REFINER)
    return subpixel_run


def test_the_refiner_comes_along_and_does_what_it_does_in_torch(
    refinable_run: Path, other_cars: ImageArray, tmp_path: Path
) -> None:
    manifest = export_cars(refinable_run, tmp_path / "3", other_cars)
    assert manifest.files.refiner == describe_file(tmp_path / "3" / "refiner.onnx")
    exported, run = OnnxBackend(tmp_path / "3"), TorchBackend(refinable_run)
    start, _ = exported.encode(other_cars)
    before, after, in_torch = (
        psnr(other_cars, exported.decode(latents))
        for latents in (start, exported.refine(other_cars, start), run.refine(other_cars, start))
    )
    assert (after >= before - 0.02).all()
    assert after.mean() > before.mean() + 0.05
    np.testing.assert_allclose(after, in_torch, atol=0.05)


def test_a_run_without_what_the_refiner_needs_is_exported_without_one(
    subpixel_run: Path, other_cars: ImageArray, tmp_path: Path
) -> None:
    assert export_cars(subpixel_run, tmp_path / "3", other_cars).files.refiner is None
    backend = OnnxBackend(tmp_path / "3")
    latents = backend.encode(other_cars)[0]
    np.testing.assert_array_equal(backend.refine(other_cars, latents), latents)


def test_a_refiner_that_differs_from_torch_writes_nothing(
    refinable_run: Path, other_cars: ImageArray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def skew(graph: onnx.ModelProto) -> None:
        graph.graph.node[-1].input[1], graph.graph.node[-1].input[2] = graph.graph.node[-1].input[2:0:-1]

    monkeypatch.setattr(model_folder, "use_integer_products", skew)
    with pytest.raises(ParityError, match="refiner's graph differs from PyTorch"):
        export_cars(refinable_run, tmp_path / "3", other_cars)
    assert not (tmp_path / "3").exists()


def test_the_last_convolution_of_cells_is_an_integer_one(
    subpixel_run: Path, other_cars: ImageArray, tmp_path: Path
) -> None:
    export_cars(subpixel_run, tmp_path / "3", other_cars)
    graph = onnx.load(tmp_path / "3" / "decoder-int8.onnx").graph
    made = {name: node for node in graph.node for name in node.output}
    weights = [node.input[1] for node in graph.node if node.op_type == "Conv"]
    integer = {name for name in weights if name in made and made[name].op_type == "DequantizeLinear"}
    assert len(weights) == 5
    floating = sorted(set(weights) - integer)
    assert len(floating) == 2
    assert "down" in floating[0]
    assert "enlarge" in floating[1]
