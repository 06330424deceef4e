import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from app.images import Pixels
from app.manifest import read_manifest
from model_training import export as export_module
from model_training.codec import OnnxCodec
from model_training.export import ParityError, export, fold_batch_norm
from model_training.model import parameter_count
from model_training.torch_codec import TorchCodec


def run_export(run: Path, target: Path, pictures: Pixels) -> None:
    export(
        run,
        target,
        name="car-vae",
        version=3,
        pictures=pictures,
        data={"trained_on": "cars"},
        metrics={"psnr": 9.0},
    )


def test_the_exported_graphs_compute_what_torch_computes(
    run_folder: Path, other_cars: Pixels, tmp_path: Path
) -> None:
    run_export(run_folder, tmp_path / "models" / "3", other_cars)
    served, trained = OnnxCodec(tmp_path / "models" / "3"), TorchCodec(run_folder)
    for count in (1, 3, len(other_cars)):
        mean, log_variance = served.encode(other_cars[:count])
        expected_mean, expected_log_variance = trained.encode(other_cars[:count])
        np.testing.assert_allclose(mean, expected_mean, atol=1e-4)
        np.testing.assert_allclose(log_variance, expected_log_variance, atol=1e-4)
        difference = served.decode(mean).astype(int) - trained.decode(mean)
        assert np.abs(difference).max() <= 1
    assert served.decode(mean).std() > 10, "the pictures are blank"


def test_the_manifest_says_what_was_exported(run_folder: Path, other_cars: Pixels, tmp_path: Path) -> None:
    target = tmp_path / "models" / "3"
    run_export(run_folder, target, other_cars)
    manifest = read_manifest(target)
    codec = TorchCodec(run_folder)
    assert manifest.id == "car-vae/3"
    assert (manifest.image_size.width, manifest.image_size.height, manifest.latent_dim) == (24, 16, 6)
    assert manifest.parameters == parameter_count(codec.model)
    assert manifest.recipe["best_epoch"] == codec.state["epoch"]
    assert manifest.data == {"trained_on": "cars"}
    assert 0 < manifest.parity.encoder_mean < 1e-4
    assert sorted(path.name for path in target.iterdir()) == ["decoder.onnx", "encoder.onnx", "model.json"]


def test_no_batch_norm_is_left_in_the_graphs(run_folder: Path, other_cars: Pixels, tmp_path: Path) -> None:
    run_export(run_folder, tmp_path / "3", other_cars)
    kinds = {
        node.op_type
        for name in ("encoder", "decoder")
        for node in onnx.load(tmp_path / "3" / f"{name}.onnx").graph.node
    }
    assert {"Conv", "ConvTranspose", "LeakyRelu"} <= kinds
    assert "BatchNormalization" not in kinds


def test_the_graphs_do_not_tell_where_they_were_made(
    run_folder: Path, other_cars: Pixels, tmp_path: Path
) -> None:
    run_export(run_folder, tmp_path / "3", other_cars)
    for name in ("encoder", "decoder"):
        content = (tmp_path / "3" / f"{name}.onnx").read_bytes()
        assert str(Path(export_module.__file__).parent).encode() not in content
        assert b"stack_trace" not in content


def test_folding_changes_nothing_but_the_layers(run_folder: Path) -> None:
    model = TorchCodec(run_folder).model
    folded = fold_batch_norm(model)
    pictures = torch.rand(4, 3, 16, 24)
    expected = model.encoder(pictures)
    torch.testing.assert_close(folded.encoder(pictures), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        folded.decoder(expected.mean), model.decoder(expected.mean), rtol=1e-4, atol=1e-5
    )
    assert parameter_count(folded) < parameter_count(model)


def test_a_difference_beyond_the_tolerance_writes_nothing_and_keeps_what_was_there(
    run_folder: Path, other_cars: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "models" / "3"
    run_export(run_folder, target, other_cars)
    before = (target / "model.json").read_bytes()
    monkeypatch.setattr(export_module, "fold_batch_norm", lambda model: skew(fold_batch_norm(model)))
    for folder in (target, tmp_path / "models" / "4"):
        with pytest.raises(ParityError, match="differs from PyTorch"):
            run_export(run_folder, folder, other_cars)
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["3"]
    assert (target / "model.json").read_bytes() == before


def test_a_new_export_keeps_the_card_and_takes_the_prior_along(
    run_folder: Path, other_cars: Pixels, tmp_path: Path
) -> None:
    target = tmp_path / "3"
    run_export(run_folder, target, other_cars)
    (target / "README.md").write_text("# The card\n")
    (run_folder / "prior.npz").write_bytes(b"prior")
    run_export(run_folder, target, other_cars)
    assert (target / "README.md").read_text() == "# The card\n"
    assert (target / "prior.npz").read_bytes() == b"prior"
    assert json.loads((target / "model.json").read_text())["files"]["prior"]["bytes"] == 5


def skew(model: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        next(model.parameters()).mul_(1.05)
    return model
