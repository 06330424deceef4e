"""The commands in the order a user gives them, and what they say when something is wrong."""

import dataclasses
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.commands.model import open_compressor
from app.images.arrays import ImageArray
from app.model.atlas import read_atlas
from app.model.manifest import read_model_folder
from app.model.prior import read_prior
from model_training import __main__ as commands
from model_training.backends.onnx_backend import OnnxBackend
from model_training.data.synthetic import draw_cars
from model_training.evaluation import simclr
from tests.tiny_model import write_tiny_model


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "CACHE", tmp_path / "cache")


@pytest.fixture
def folder(tmp_path: Path, cars: ImageArray) -> str:
    """Forty images."""
    (tmp_path / "images").mkdir()
    for i, car in enumerate(cars[:40]):
        Image.fromarray(car).save(tmp_path / "images" / f"{i}.png")
    return str(tmp_path / "images")


def test_from_a_folder_to_a_model_that_can_be_served(
    folder: str, run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "models" / "cars" / "2"
    assert commands.main(["fit-prior", str(run_folder), "--data", folder, "--steps", "20"]) == 0
    told = ["--trained-on", "forty drawings"]
    assert commands.main(["export", str(run_folder), "--out", str(model), "--data", folder, *told]) == 0
    manifest = read_model_folder(model).manifest
    assert manifest.id == "cars/2"
    assert manifest.files.prior is not None
    assert manifest.data == {"trained_on": "forty drawings"}
    assert manifest.recipe["prior"]["steps"] == 20
    capsys.readouterr()
    assert commands.main(["evaluate", str(model), "--data", folder]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["pictures"] == 40
    assert manifest.metrics == pytest.approx(measured, rel=1e-3)


def test_what_pack_writes_is_trained_on(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "small.toml"
    recipe.write_text(
        "seed = 0\n[model]\nwidth = 24\nheight = 16\nchannels = [8, 8]\nlatent_dim = 4\n"
        "[training]\nepochs = 1\nbatch_size = 20\nlearning_rate = 1e-3\n"
    )
    packed = tmp_path / "cars.npz"
    told = ["pack", "--data", folder, "--val", folder, "--recipe", str(recipe)]
    assert commands.main([*told, "--out", str(packed)]) == 0
    told = ["train", "--recipe", str(recipe), "--data", str(packed), "--out", str(tmp_path / "run")]
    assert commands.main(told) == 0
    assert capsys.readouterr().out.count("40 pictures to train on, 40 to validate") == 2
    assert commands.main(["pack", "--data", folder, "--out", str(tmp_path / "cars.zip")]) == 1
    assert "--out ends in .npz, not in 'cars.zip'" in capsys.readouterr().err


def test_samples_are_measured_alike_for_the_manifest_and_by_command(
    folder: str, run_folder: Path, cars: ImageArray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = simclr.FeatureRecipe.load(simclr.DEFAULT_RECIPE)
    changes = {"width": 24, "height": 16, "channels": (8, 8), "features": 6, "epochs": 1, "batch_size": 32}
    recipe = dataclasses.replace(recipe, **changes)  # type: ignore[arg-type]
    simclr.export_network(simclr.fit(recipe, cars), recipe, tmp_path / "features.onnx")
    told = ["--train-data", folder, "--features", str(tmp_path / "features.onnx"), "--data", folder]
    assert commands.main(["fit-prior", str(run_folder), "--data", folder, "--steps", "20"]) == 0
    model = tmp_path / "cars" / "2"
    assert commands.main(["export", str(run_folder), "--out", str(model), *told]) == 0
    capsys.readouterr()
    assert commands.main(["evaluate", str(model), *told]) == 0
    measured = json.loads(capsys.readouterr().out)
    metrics = read_model_folder(model).manifest.metrics
    assert {"frechet_fitted_samples", "recall_standard_samples"} <= metrics.keys()
    # Of 40 images a few may be counted otherwise.
    assert metrics == pytest.approx({name: measured[name] for name in metrics}, rel=0.05, abs=0.1)


def test_what_evaluate_saves_stands_in_the_card(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_tiny_model(tmp_path / "tiny-vae" / "1")
    assert commands.main(["evaluate", str(model), "--data", folder]) == 0
    assert read_model_folder(model).manifest.metrics == {"psnr": 10.0}
    assert commands.main(["evaluate", str(model), "--data", folder, "--save"]) == 0
    metrics = read_model_folder(model).manifest.metrics
    assert metrics["pictures"] == 40
    assert metrics["psnr"] != 10
    assert commands.main(["card", str(model), "--data", folder]) == 0
    text = (model / "README.md").read_text()
    assert f"| PSNR of reconstructions, dB | {metrics['psnr']:.2f} |" in text
    assert "](reconstructions.jpg)" in text
    with Image.open(model / "reconstructions.jpg") as row:
        assert row.size == (8 * 24 * 2, 16 * 2)
    (model / "model.json").write_text("{}")
    capsys.readouterr()
    assert commands.main(["card", str(model)]) == 1
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize("originals", [True, False])
def test_plot_draws_each_figure_of_a_run(
    folder: str, run_folder: Path, tmp_path: Path, originals: bool
) -> None:
    assert commands.main(["fit-prior", str(run_folder), "--data", folder, "--steps", "20"]) == 0
    arguments = ["plot", str(run_folder), "--data", folder, "--out", str(tmp_path / "plots")]
    assert commands.main(arguments if originals else [*arguments, "--no-originals"]) == 0
    names = ["interpolations", "loss", "reconstructions", "samples-fitted", "samples-standard"]
    assert sorted(path.stem for path in (tmp_path / "plots").iterdir()) == names
    with Image.open(tmp_path / "plots" / "reconstructions.png") as image:
        assert image.size == (8 * 24 * 2, (6 if originals else 3) * 16 * 2)
        assert np.asarray(image).std() > 10
    standard, fitted = (
        Image.open(tmp_path / "plots" / f"samples-{kind}.png") for kind in ("standard", "fitted")
    )
    assert standard.size == fitted.size == (8 * 24 * 2, 4 * 16 * 2)
    assert standard.tobytes() != fitted.tobytes()


def test_codes_are_fitted_and_measured(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, rates = write_tiny_model(tmp_path / "tiny-vae" / "1"), tmp_path / "rates.json"
    assert commands.main(["fit-codes", str(model), "--data", folder, "--steps", "60"]) == 0
    files = read_model_folder(model).manifest.codes
    assert files is not None
    assert json.loads(capsys.readouterr().out) == dataclasses.asdict(files)
    content, quality = (Path(folder) / "3.png").read_bytes(), []
    compressor = open_compressor(model)
    for budget in (30, 200):
        packed = compressor.compress(content, budget)
        assert len(packed.code) <= budget
        quality.append(packed.psnr)
    assert quality[1] > quality[0] + 2
    assert commands.main(["rate-distortion", str(model), "--data", folder, "--out", str(rates)]) == 0
    told = ["plot", str(model), "--data", folder, "--out", str(tmp_path / "plots"), "--rates", str(rates)]
    assert commands.main(told) == 0
    with Image.open(tmp_path / "plots" / "rate-distortion.png") as figure:
        assert np.asarray(figure).std() > 10


def test_an_atlas_is_fitted_and_recorded(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_tiny_model(tmp_path / "model")
    before = read_model_folder(model).manifest
    (tmp_path / "more").mkdir()
    for i, car in enumerate(draw_cars(60, 24, 16, seed=5)):
        Image.fromarray(car).save(tmp_path / "more" / f"{i}.png")
    told = ["fit-atlas", str(model), "--data", str(tmp_path / "more"), "--val", folder, "--steps", "9"]
    assert commands.main([*told, "--more", folder, "--others", folder]) == 0
    printed = json.loads(capsys.readouterr().out)
    shares = printed.pop("taken_for_cars")
    read = read_model_folder(model)
    assert read.manifest.atlas is not None
    assert printed == dataclasses.asdict(read.manifest.atlas)
    assert dataclasses.replace(read.manifest, atlas=None) == before
    atlas = read_atlas(read)
    assert atlas is not None
    assert [one.name for one in atlas.directions].count("Paint") == 3
    assert shares["val"] == shares["others"] == pytest.approx(39 / 40)
    assert set(shares) == {"val", "others", "more"}
    assert atlas.map_seeds.shape == (20, 25)
    assert len(set(atlas.map_seeds.ravel().tolist())) == 500
    with Image.open(io.BytesIO(atlas.sheet)) as sheet:
        assert sheet.size == (25 * 24, 20 * 16)
        place = np.asarray(sheet.convert("RGB"), np.float64)[2 * 16 : 3 * 16, 7 * 24 : 8 * 24]
    assert read.manifest.files.prior is not None
    prior = read_prior(read.content(read.manifest.files.prior), read.manifest.latent_dim)
    drawn = OnnxBackend(model).decode(prior.draw(1, int(atlas.map_seeds[2, 7])))[0]
    (likeness,) = np.corrcoef(place.mean(axis=2).ravel(), drawn.mean(axis=2).ravel())[:1, 1]
    assert likeness > 0.7


def test_an_atlas_needs_a_prior(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_tiny_model(tmp_path / "model", prior=False)
    assert commands.main(["fit-atlas", str(model), "--data", folder, "--val", folder]) == 1
    assert "no fitted prior" in capsys.readouterr().err


def test_a_resumed_training_goes_on_to_more_epochs(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "small.toml"
    recipe.write_text(
        "seed = 0\n[model]\nwidth = 24\nheight = 16\nchannels = [4, 8]\nlatent_dim = 4\n"
        "[training]\nepochs = 1\nbatch_size = 16\nlearning_rate = 1e-3\n"
    )
    arguments = [
        "train",
        "--recipe",
        str(recipe),
        "--data",
        folder,
        "--out",
        str(tmp_path / "run"),
        "--device",
        "cpu",
    ]
    assert commands.main(arguments) == 0
    assert "36 pictures to train on, 4 to validate" in capsys.readouterr().out
    assert commands.main([*arguments, "--resume", "--epochs", "3"]) == 0
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--recipe", "none", "--data", "synthetic", "--out", "x"], "no recipe 'none'"),
        (["train", "--recipe", "tiny", "--data", "nowhere", "--out", "x"], "no folder 'nowhere'"),
        (["train", "--recipe", "tiny", "--data", "synthetic", "--out", "x", "--resume"], "no checkpoint"),
        (["export", "nowhere", "--out", "models/car-vae/1"], "no checkpoint"),
        (["export", "nowhere", "--out", "models/car-vae"], "whole number for the version"),
        (["evaluate", "nowhere", "--data", "synthetic"], "no checkpoint"),
    ],
)
def test_mistakes_are_said_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert commands.main(arguments) == 1
    error = capsys.readouterr().err.strip()
    assert message in error
    assert error.startswith("error: ")
    assert "\n" not in error


def test_a_model_folder_is_evaluated_without_torch(folder: str, run_folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "models" / "cars" / "1"
    assert commands.main(["export", str(run_folder), "--out", str(model)]) == 0
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from model_training.__main__ import main\n"
        f"sys.exit(main(['evaluate', {str(model)!r}, '--data', {folder!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={"HOME": str(tmp_path)},
        check=True,
    )
    assert json.loads(done.stdout)["pictures"] == 40


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_every_command_says_what_it_does_and_takes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        commands.main([name, "--help"])
    assert end.value.code == 0
    assert f"python -m model_training {name}" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        commands.main(["--help"])
    assert name in capsys.readouterr().out


def test_help_says_what_fine_tuning_learns_from(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        commands.main(["--help"])
    assert "with a feature loss and refined latents" in capsys.readouterr().out
