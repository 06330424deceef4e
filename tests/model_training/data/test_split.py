import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.images.arrays import ImageArray
from model_training.data.dataset import load, load_split
from model_training.data.split import (
    NEAR_DUPLICATE_BITS,
    Pictures,
    difference_hashes,
    near_duplicate_groups,
    split,
)


def write(path: Path, pixels: ImageArray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path: Path, cars: ImageArray) -> Path:
    """Twelve readable pictures, flat and nested, an unreadable one, an empty one and a text."""
    for i in range(6):
        write(tmp_path / "cars" / f"{i}.png", cars[i])
        write(tmp_path / "cars" / "more" / "deep" / f"{i}.JPG", cars[i + 6])
    (tmp_path / "cars" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    (tmp_path / "cars" / "empty.png").touch()
    (tmp_path / "cars" / "notes.txt").write_text("not a picture")
    return tmp_path / "cars"


def test_a_folder_is_read_whole_and_bad_files_are_reported(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        pictures = load(str(folder), 24, 16)
    assert len(pictures) == 12
    assert pictures.pixels.shape == (12, 16, 24, 3)
    assert "more/deep/0.JPG" in pictures.names
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
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert first.names == again.names
    write(folder / "new.png", cars[20])
    assert len(load(str(folder), 24, 16, tmp_path / "cache")) == 13


@pytest.mark.parametrize("content", [None, "empty"])
def test_a_folder_without_pictures_is_an_error(tmp_path: Path, content: str | None) -> None:
    folder = tmp_path / "none"
    if content:
        folder.mkdir()
    with pytest.raises(ValueError, match="no folder" if content is None else "no readable picture"):
        load(str(folder), 24, 16)


def test_two_folders_are_not_split(folder: Path) -> None:
    pictures, validation = load_split(str(folder), str(folder / "more"), 24, 16)
    assert (len(pictures), len(validation)) == (12, 6)


def test_near_duplicates_stay_on_one_side(cars: ImageArray) -> None:
    darker = (cars * 0.97).astype(np.uint8)
    both = Pictures(np.concatenate([cars, darker]), tuple(f"{i}" for i in range(2 * len(cars))))
    train, validation = split(both)
    assert len(train) + len(validation) == len(both)
    assert 0.08 < len(validation) / len(both) < 0.15
    twins = {str((int(name) + len(cars)) % len(both)) for name in validation.names}
    assert twins == set(validation.names)


def test_the_split_depends_on_what_the_pictures_show_alone(cars: ImageArray) -> None:
    pictures = Pictures(cars, tuple(f"{i}" for i in range(len(cars))))
    order = np.random.default_rng(0).permutation(len(cars))
    shuffled = Pictures(cars[order], tuple(f"{i}" for i in order))
    assert set(split(pictures)[1].names) == set(split(shuffled)[1].names)


def test_pictures_that_are_all_alike_cannot_be_split(cars: ImageArray) -> None:
    with pytest.raises(ValueError, match="at least two different"):
        split(Pictures(np.repeat(cars[:1], 5, axis=0), tuple("abcde")))


def test_groups_are_those_of_comparing_every_pair() -> None:
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**63, 40, dtype=np.uint64)
    flips = np.uint64(1) << random.integers(0, 64, (3, 40), dtype=np.uint64)
    hashes = np.concatenate([hashes, hashes ^ flips[0] ^ flips[1] ^ flips[2], hashes ^ np.uint64(0b1111)])
    near = np.bitwise_count(hashes[:, None] ^ hashes[None]) <= NEAR_DUPLICATE_BITS
    for _ in range(7):
        near = (near.astype(int) @ near.astype(int)) > 0
    expected = {tuple(np.flatnonzero(row)) for row in near}
    assert {tuple(group) for group in near_duplicate_groups(hashes)} == expected


def test_hashes_do_not_see_brightness(cars: ImageArray) -> None:
    lighter = np.clip(cars[:20].astype(int) // 2 + 60, 0, 255).astype(np.uint8)
    distances = np.bitwise_count(difference_hashes(cars[:20]) ^ difference_hashes(lighter))
    assert distances.mean() < 3
    others = np.bitwise_count(difference_hashes(cars[:20]) ^ difference_hashes(cars[20:40]))
    assert others.mean() > 8
