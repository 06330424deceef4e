"""The default model: in the checkout here; in a package, where the package has it."""

from pathlib import Path

import pytest

from app.model import default_model
from app.model.default_model import DEFAULT_MODEL, default_model_dir
from app.model.manifest import read_model_folder
from app.settings import Settings

ROOT = Path(__file__).parents[3]


def test_in_a_checkout_it_is_the_folder_of_that_name() -> None:
    assert default_model_dir() == ROOT / "models" / DEFAULT_MODEL
    assert read_model_folder(default_model_dir()).manifest.id == DEFAULT_MODEL


def test_in_a_package_it_is_the_one_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "app" / "models" / DEFAULT_MODEL
    monkeypatch.setattr(default_model, "_PACKAGE", tmp_path / "app")
    assert default_model_dir() == tmp_path / "models" / DEFAULT_MODEL
    inside.mkdir(parents=True)
    assert default_model_dir() == inside


def test_it_is_served_unless_another_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings().model_dir == default_model_dir()
    monkeypatch.setenv("CAR_VAE_MODEL_DIR", "elsewhere/1")
    assert Settings().model_dir == Path("elsewhere/1")
