"""Split of a dataset into training and validation images, near-duplicates never on both sides."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.images.arrays import ImageArray

VALIDATION_FRACTION = 0.1
NEAR_DUPLICATE_BITS = 3


@dataclass(frozen=True)
class ImageDataset:
    """Images of one size, (N, height, width, 3) uint8, and the file of each, relative to its folder."""

    images: ImageArray
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, indices: Sequence[int] | NDArray[np.int64]) -> "ImageDataset":
        return ImageDataset(self.images[indices], tuple(self.names[i] for i in indices))


def concatenate(datasets: Sequence[ImageDataset]) -> ImageDataset:
    """One dataset after the other; all of one size."""
    images = np.concatenate([dataset.images for dataset in datasets])
    return ImageDataset(images, tuple(name for dataset in datasets for name in dataset.names))


def split(dataset: ImageDataset) -> tuple[ImageDataset, ImageDataset]:
    """Set one tenth aside, decided by what the images show and not by their names.

    Images whose 64-bit difference hashes differ in at most NEAR_DUPLICATE_BITS bits stay together.

    Raises:
        ValueError: fewer than two distinct images.
    """
    hashes = difference_hashes(dataset.images)
    groups = near_duplicate_groups(hashes)
    order = sorted(groups, key=lambda group: hashlib.sha256(min(hashes[i] for i in group).tobytes()).digest())
    if len(order) < 2:
        raise ValueError("at least two different pictures are needed, one to train on and one to validate")
    wanted = max(1, round(VALIDATION_FRACTION * len(dataset)))
    validation: list[int] = []
    for group in order[:-1]:
        if len(validation) >= wanted:
            break
        validation.extend(group)
    held_out = np.zeros(len(dataset), dtype=bool)
    held_out[validation] = True
    return dataset[np.flatnonzero(~held_out)], dataset[np.flatnonzero(held_out)]


def difference_hashes(images: ImageArray) -> NDArray[np.uint64]:
    """64-bit hashes that near-duplicates share but for a few bits: which of 9 x 8 cells are darker than the
    one to their right.

    Args:
        images: (N, height, width, 3) uint8, at least 9 x 8.

    Returns:
        (N,) uint64.
    """
    grey = images.mean(axis=3, dtype=np.float32)
    rows = np.stack([part.mean(axis=1) for part in np.array_split(grey, 8, axis=1)], axis=1)
    cells = np.stack([part.mean(axis=2) for part in np.array_split(rows, 9, axis=2)], axis=2)
    bits = (cells[:, :, :-1] < cells[:, :, 1:]).reshape(len(images), 64)
    return np.packbits(bits, axis=1).view(np.uint64)[:, 0]


def near_duplicate_groups(hashes: NDArray[np.uint64]) -> list[list[int]]:
    """Connected components of "at most NEAR_DUPLICATE_BITS bits apart", each a sorted list of indices.

    Of four 16-bit quarters at least one is equal in any such pair, so only those need comparing.
    """
    parent = list(range(len(hashes)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for quarter in range(4):
        keys = (hashes >> np.uint64(16 * quarter)) & np.uint64(0xFFFF)
        order = np.argsort(keys, kind="stable")
        starts = np.flatnonzero(np.diff(keys[order], prepend=keys[order][:1] + np.uint64(1)))
        for bucket in np.split(order, starts[1:]):
            for position, i in enumerate(bucket[:-1]):
                rest = bucket[position + 1 :]
                near = np.bitwise_count(hashes[rest] ^ hashes[i]) <= NEAR_DUPLICATE_BITS
                for j in rest[near]:
                    parent[root(int(j))] = root(int(i))
    groups: dict[int, list[int]] = {}
    for i in range(len(hashes)):
        groups.setdefault(root(i), []).append(i)
    return list(groups.values())
