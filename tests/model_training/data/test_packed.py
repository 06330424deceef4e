"""Packed dataset: what is written is read, by the same words as folders; other files are refused by name."""

from pathlib import Path

import numpy as np
import pytest

from app.images.arrays import ImageArray
from model_training.data.dataset import load, load_split
from model_training.data.packed import PackedSource, pack
from model_training.data.split import ImageDataset


@pytest.fixture
def packed(tmp_path: Path, cars: ImageArray) -> Path:
    """Five images to train on, three to validate."""
    path = tmp_path / "new" / "cars.npz"
    names = tuple(f"{i}.png" for i in range(8))
    pack(ImageDataset(cars[:5], names[:5]), ImageDataset(cars[5:8], names[5:]), path)
    return path


def test_both_parts_are_read_as_they_were_packed(packed: Path, cars: ImageArray) -> None:
    training, validation = load_split(str(packed), None, 24, 16)
    np.testing.assert_array_equal(training.images, cars[:5])
    np.testing.assert_array_equal(validation.images, cars[5:8])
    assert validation.names == ("5.png", "6.png", "7.png")
    assert [file.name for file in packed.parent.iterdir()] == ["cars.npz"]


def test_a_part_is_a_source_of_its_own(packed: Path, cars: ImageArray) -> None:
    np.testing.assert_array_equal(load(f"{packed}:train", 24, 16).images, cars[:5])
    np.testing.assert_array_equal(load(f"{packed}:validation", 24, 16).images, cars[5:8])
    training, validation = load_split(f"{packed}:validation", f"{packed}:train", 24, 16)
    assert (len(training), len(validation)) == (3, 5)


def test_a_file_of_two_sets_does_not_stand_for_one(packed: Path) -> None:
    with pytest.raises(ValueError, match=r"say .*cars\.npz:train or .*cars\.npz:validation"):
        load(str(packed), 24, 16)


def test_images_of_another_size_are_refused(packed: Path) -> None:
    with pytest.raises(ValueError, match="has pictures of 24 x 16, and 96 x 64 are needed"):
        load(f"{packed}:train", 96, 64)


@pytest.mark.parametrize("content", [b"", b"no archive", "cut", "other"])
def test_files_that_pack_did_not_write_are_refused_by_name(packed: Path, content: bytes | str) -> None:
    if content == "cut":
        packed.write_bytes(packed.read_bytes()[:2000])
    elif content == "other":
        np.savez(packed, train=np.zeros(3), train_names=np.zeros(3))
    else:
        assert isinstance(content, bytes)
        packed.write_bytes(content)
    with pytest.raises(ValueError, match=r"cars\.npz .*not written by pack"):
        load(f"{packed}:train", 24, 16)


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no file .*none\.npz"):
        load_split(str(tmp_path / "none.npz"), None, 24, 16)


def test_other_sources_are_no_packed_file() -> None:
    assert PackedSource.parse("cars") is None
    assert PackedSource.parse("cars.npz") == (Path("cars.npz"), None)
    assert PackedSource.parse("a/cars.npz:train") == (Path("a/cars.npz"), "train")
    assert PackedSource.parse("cars.npz:test") is None
