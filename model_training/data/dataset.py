"""A folder of pictures -> fitted uint8 arrays, split so that near-duplicates never stand on both sides."""

import hashlib
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from app.errors import PictureError
from app.images import Pixels, read_picture
from model_training.synthetic import draw_cars

log = logging.getLogger(__name__)

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}
SYNTHETIC = "synthetic"
SYNTHETIC_COUNT = 2048
MAX_PIXELS = 200_000_000
VALIDATION_FRACTION = 0.1
NEAR_DUPLICATE_BITS = 3
CACHE_FORMAT = 1
"""Raised whenever the fitting of a picture changes, so that no stale cache is read."""


@dataclass(frozen=True)
class Pictures:
    """Fitted pictures: pixels (N, height, width, 3) uint8, and the file of each, relative to its folder."""

    pixels: Pixels
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, indices: Sequence[int] | NDArray[np.int64]) -> "Pictures":
        return Pictures(self.pixels[indices], tuple(self.names[i] for i in indices))


def load(source: str, width: int, height: int, cache: Path | None = None) -> Pictures:
    """Read every picture below a folder, or draw synthetic cars.

    Unreadable files are reported and skipped.

    Args:
        source: a folder, or "synthetic".
        width, height: the size that each picture is fitted to.
        cache: a folder for the fitted arrays; None reads the pictures anew.

    Raises:
        ValueError: no such folder, or not one readable picture in it.
    """
    if source == SYNTHETIC:
        names = tuple(f"{SYNTHETIC}-{i}" for i in range(SYNTHETIC_COUNT))
        return Pictures(draw_cars(SYNTHETIC_COUNT, width, height, seed=0), names)
    folder = Path(source)
    if not folder.is_dir():
        raise ValueError(f"no folder {source!r} (or give {SYNTHETIC!r} for drawn cars)")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    cached = cache / f"{_cache_key(folder, files, width, height)}.npz" if cache is not None else None
    if cached is not None and cached.is_file():
        with np.load(cached) as stored:
            return Pictures(stored["pixels"], tuple(stored["names"].tolist()))
    pictures = _read_all(folder, files, width, height)
    if cached is not None:
        cached.parent.mkdir(parents=True, exist_ok=True)
        partial = cached.with_suffix(f".{os.getpid()}.npz")
        np.savez(partial, pixels=pictures.pixels, names=np.array(pictures.names))
        partial.replace(cached)
    return pictures


def load_split(
    source: str, validation: str | None, width: int, height: int, cache: Path | None = None
) -> tuple[Pictures, Pictures]:
    """Training and validation pictures: from two folders, or one folder split by `split`."""
    pictures = load(source, width, height, cache)
    if validation is not None:
        return pictures, load(validation, width, height, cache)
    return split(pictures)


def split(pictures: Pictures) -> tuple[Pictures, Pictures]:
    """Set one tenth aside, decided by what the pictures show and not by their names.

    Pictures whose 64-bit difference hashes differ in at most NEAR_DUPLICATE_BITS bits stay together.

    Raises:
        ValueError: fewer than two distinct pictures.
    """
    hashes = difference_hashes(pictures.pixels)
    groups = near_duplicate_groups(hashes)
    order = sorted(groups, key=lambda group: hashlib.sha256(min(hashes[i] for i in group).tobytes()).digest())
    if len(order) < 2:
        raise ValueError("at least two different pictures are needed, one to train on and one to validate")
    wanted = max(1, round(VALIDATION_FRACTION * len(pictures)))
    validation: list[int] = []
    for group in order[:-1]:
        if len(validation) >= wanted:
            break
        validation.extend(group)
    held_out = np.zeros(len(pictures), dtype=bool)
    held_out[validation] = True
    return pictures[np.flatnonzero(~held_out)], pictures[np.flatnonzero(held_out)]


def difference_hashes(pixels: Pixels) -> NDArray[np.uint64]:
    """64-bit hashes that near-duplicates share but for a few bits: which of 9 x 8 cells are darker than the
    one to their right.

    Args:
        pixels: (N, height, width, 3) uint8, at least 9 x 8.

    Returns:
        (N,) uint64.
    """
    grey = pixels.mean(axis=3, dtype=np.float32)
    rows = np.stack([part.mean(axis=1) for part in np.array_split(grey, 8, axis=1)], axis=1)
    cells = np.stack([part.mean(axis=2) for part in np.array_split(rows, 9, axis=2)], axis=2)
    bits = (cells[:, :, :-1] < cells[:, :, 1:]).reshape(len(pixels), 64)
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


def _read_all(folder: Path, files: list[Path], width: int, height: int) -> Pictures:
    def read(file: Path) -> Pixels | None:
        try:
            return read_picture(file.read_bytes(), width, height, MAX_PIXELS)
        except (PictureError, OSError) as error:
            log.warning("skipped %s: %s", file, error)
            return None

    with ThreadPoolExecutor() as pool:
        results = list(tqdm(pool.map(read, files), desc="reading pictures", total=len(files), disable=None))
    kept = [(file, pixels) for file, pixels in zip(files, results, strict=True) if pixels is not None]
    if not kept:
        raise ValueError(f"no readable picture below {folder}")
    names = tuple(file.relative_to(folder).as_posix() for file, _ in kept)
    return Pictures(np.stack([pixels for _, pixels in kept]), names)


def _cache_key(folder: Path, files: list[Path], width: int, height: int) -> str:
    digest = hashlib.sha256(f"{CACHE_FORMAT} {width}x{height}".encode())
    for file in files:
        status = file.stat()
        digest.update(f"{file.relative_to(folder)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]
