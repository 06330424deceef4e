import numpy as np
import pytest

from app.images.arrays import ImageArray
from model_training.data.split import (
    NEAR_DUPLICATE_BITS,
    ImageDataset,
    difference_hashes,
    near_duplicate_groups,
    split,
)


def test_near_duplicates_stay_on_one_side(cars: ImageArray) -> None:
    darker = (cars * 0.97).astype(np.uint8)
    both = ImageDataset(np.concatenate([cars, darker]), tuple(f"{i}" for i in range(2 * len(cars))))
    train, validation = split(both)
    assert len(train) + len(validation) == len(both)
    assert 0.08 < len(validation) / len(both) < 0.15
    twins = {str((int(name) + len(cars)) % len(both)) for name in validation.names}
    assert twins == set(validation.names)


def test_the_split_depends_on_what_the_images_show_alone(cars: ImageArray) -> None:
    dataset = ImageDataset(cars, tuple(f"{i}" for i in range(len(cars))))
    order = np.random.default_rng(0).permutation(len(cars))
    shuffled = ImageDataset(cars[order], tuple(f"{i}" for i in order))
    assert set(split(dataset)[1].names) == set(split(shuffled)[1].names)


def test_images_that_are_all_alike_cannot_be_split(cars: ImageArray) -> None:
    with pytest.raises(ValueError, match="at least two different"):
        split(ImageDataset(np.repeat(cars[:1], 5, axis=0), tuple("abcde")))


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


def test_rows_of_a_dataset_keep_their_names(cars: ImageArray) -> None:
    dataset = ImageDataset(cars[:4], tuple("abcd"))
    chosen = dataset[np.array([2, 0])]
    assert chosen.names == ("c", "a")
    np.testing.assert_array_equal(chosen.images, cars[[2, 0]])
