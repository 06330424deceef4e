import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.images.arrays import ImageArray
from model_training.data.dataset import load, load_split


def write(path: Path, image: ImageArray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


@pytest.fixture
def folder(tmp_path: Path, cars: ImageArray) -> Path:
    """Twelve readable images, flat and nested, an unreadable one, an empty one and a text."""
    for i in range(6):
        write(tmp_path / "cars" / f"{i}.png", cars[i])
        write(tmp_path / "cars" / "more" / "deep" / f"{i}.JPG", cars[i + 6])
    (tmp_path / "cars" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no image")
    (tmp_path / "cars" / "empty.png").touch()
    (tmp_path / "cars" / "notes.txt").write_text("not an image")
    return tmp_path / "cars"


def test_a_folder_is_read_whole_and_bad_files_are_reported(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        dataset = load(str(folder), 24, 16)
    assert len(dataset) == 12
    assert dataset.images.shape == (12, 16, 24, 3)
    assert "more/deep/0.JPG" in dataset.names
    skipped = [record.getMessage() for record in caplog.records]
    assert len(skipped) == 2
    assert any("broken.jpg" in line for line in skipped)
    assert any("empty.png" in line for line in skipped)


def test_the_cache_answers_for_an_unchanged_folder_only(
    folder: Path, cars: ImageArray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(str(folder), 24, 16, tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(
            "model_training.data.dataset.read_image", lambda *_: pytest.fail("read although it was cached")
        )
        again = load(str(folder), 24, 16, tmp_path / "cache")
    np.testing.assert_array_equal(first.images, again.images)
    assert first.names == again.names
    write(folder / "new.png", cars[20])
    assert len(load(str(folder), 24, 16, tmp_path / "cache")) == 13


@pytest.mark.parametrize("content", [None, "empty"])
def test_a_folder_without_images_is_an_error(tmp_path: Path, content: str | None) -> None:
    folder = tmp_path / "none"
    if content:
        folder.mkdir()
    with pytest.raises(ValueError, match="no folder" if content is None else "no readable picture"):
        load(str(folder), 24, 16)


def test_two_folders_are_not_split(folder: Path) -> None:
    training, validation = load_split(str(folder), str(folder / "more"), 24, 16)
    assert (len(training), len(validation)) == (12, 6)


def test_one_folder_is_split(folder: Path) -> None:
    training, validation = load_split(str(folder), None, 24, 16)
    assert len(validation) >= 1
    assert len(training) + len(validation) == 12


def test_drawn_cars_stand_in_for_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_training.data.dataset.SYNTHETIC_COUNT", 3)
    dataset = load("synthetic", 24, 16)
    assert dataset.names == ("synthetic-0", "synthetic-1", "synthetic-2")
    assert dataset.images.shape == (3, 16, 24, 3)
