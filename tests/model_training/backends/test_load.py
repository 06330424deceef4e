"""Choice of the backend by what lies at a path."""

import shutil
from pathlib import Path

import pytest

from app.errors import ModelFolderError
from model_training.backends.load import open_backend
from model_training.backends.onnx_backend import OnnxBackend
from model_training.backends.torch_backend import TorchBackend
from tests.tiny_model import write_tiny_model


def test_a_model_folder_is_opened_with_onnx_runtime(tmp_path: Path) -> None:
    assert isinstance(open_backend(write_tiny_model(tmp_path)), OnnxBackend)


def test_a_run_is_opened_with_torch(finished_run: Path) -> None:
    assert isinstance(open_backend(finished_run), TorchBackend)


def test_an_exported_model_comes_before_a_run_in_the_same_folder(run_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(write_tiny_model(tmp_path / "tiny"), run_folder, dirs_exist_ok=True)
    assert isinstance(open_backend(run_folder), OnnxBackend)


def test_a_folder_of_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no checkpoint"):
        open_backend(tmp_path)


def test_a_damaged_model_folder_is_not_taken_for_a_run(run_folder: Path) -> None:
    (run_folder / "model.json").write_text("{}")
    with pytest.raises(ModelFolderError):
        open_backend(run_folder)
