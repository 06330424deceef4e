"""Codes of a model folder: recorded with their hashes, and opened from there."""

from pathlib import Path

import pytest

from app.codes.wire import tag_of
from app.errors import ModelFolderError
from app.model.manifest import read_model_folder
from model_training.compression.stored import open_codes, write_codes
from tests.app.codes.tiny_codes import tiny_tables
from tests.tiny_model import write_tiny_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = write_tiny_model(tmp_path / "tiny-vae" / "5", version=5)
    write_codes(folder, tiny_tables(), None)
    return folder


def test_the_manifest_names_tag_and_file(folder: Path) -> None:
    files = read_model_folder(folder).manifest.codes
    assert files is not None
    assert (files.tag, files.tables.path, files.filter) == (tag_of(5), "codes.npz", None)
    (folder / "codes.npz").write_bytes(b"other")
    with pytest.raises(ModelFolderError, match=r"codes\.npz"):
        open_codes(folder)


def test_a_folder_without_codes_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match="fit-codes"):
        open_codes(write_tiny_model(tmp_path / "tiny-vae" / "1"))
