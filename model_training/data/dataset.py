"""Datasets: image files of a folder, or a packed file -> uint8 arrays of the model's size."""

import hashlib
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from app.errors import ImageError
from app.images.arrays import ImageArray
from app.images.decode import read_image
from model_training.data.packed import PackedSource, read_packed
from model_training.data.split import ImageDataset, split
from model_training.data.synthetic import draw_cars

log = logging.getLogger(__name__)

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"}
SYNTHETIC = "synthetic"
SYNTHETIC_COUNT = 2048
MAX_PIXELS = 200_000_000
CACHE_FORMAT = 2
"""Raised whenever the fitting of an image changes, so that no stale cache is read."""


def load(source: str, width: int, height: int, cache: Path | None = None) -> ImageDataset:
    """Read every image below a folder, read a part of a packed file, or draw synthetic cars.

    Unreadable files are reported and skipped.

    Args:
        source: a folder, FILE.npz:train or FILE.npz:validation (see packed.py), or "synthetic".
        width, height: the size that each image is fitted to.
        cache: a folder for the fitted arrays; None reads the images anew.

    Raises:
        ValueError: no such folder, or not one readable image in it; no such packed file, or not of this size.
    """
    if source == SYNTHETIC:
        names = tuple(f"{SYNTHETIC}-{i}" for i in range(SYNTHETIC_COUNT))
        return ImageDataset(draw_cars(SYNTHETIC_COUNT, width, height, seed=0), names)
    packed = PackedSource.parse(source)
    if packed is not None:
        if packed.part is None:
            raise ValueError(
                f"{source} holds two sets of pictures: say {source}:train or {source}:validation"
            )
        return read_packed(packed.path, packed.part, width, height)
    folder = Path(source)
    if not folder.is_dir():
        raise ValueError(f"no folder {source!r} (or give {SYNTHETIC!r} for drawn cars)")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    cached = cache / f"{_cache_key(folder, files, width, height)}.npz" if cache is not None else None
    if cached is not None and cached.is_file():
        with np.load(cached) as stored:
            return ImageDataset(stored["pixels"], tuple(stored["names"].tolist()))
    dataset = _read_all(folder, files, width, height)
    if cached is not None:
        cached.parent.mkdir(parents=True, exist_ok=True)
        partial = cached.with_suffix(f".{os.getpid()}.npz")
        np.savez(partial, pixels=dataset.images, names=np.array(dataset.names))
        partial.replace(cached)
    return dataset


def load_split(
    source: str, validation: str | None, width: int, height: int, cache: Path | None = None
) -> tuple[ImageDataset, ImageDataset]:
    """Training and validation images: the two parts of a packed file, two sources, or one split."""
    packed = PackedSource.parse(source)
    if packed is not None and packed.part is None and validation is None:
        return (
            read_packed(packed.path, "train", width, height),
            read_packed(packed.path, "validation", width, height),
        )
    dataset = load(source, width, height, cache)
    if validation is not None:
        return dataset, load(validation, width, height, cache)
    return split(dataset)


def _read_all(folder: Path, files: list[Path], width: int, height: int) -> ImageDataset:
    def read(file: Path) -> ImageArray | None:
        try:
            return read_image(file.read_bytes(), width, height, MAX_PIXELS)
        except (ImageError, OSError) as error:
            log.warning("skipped %s: %s", file, error)
            return None

    with ThreadPoolExecutor() as pool:
        results = list(tqdm(pool.map(read, files), desc="reading pictures", total=len(files), disable=None))
    kept = [(file, image) for file, image in zip(files, results, strict=True) if image is not None]
    if not kept:
        raise ValueError(f"no readable picture below {folder}")
    names = tuple(file.relative_to(folder).as_posix() for file, _ in kept)
    return ImageDataset(np.stack([image for _, image in kept]), names)


def _cache_key(folder: Path, files: list[Path], width: int, height: int) -> str:
    digest = hashlib.sha256(f"{CACHE_FORMAT} {width}x{height}".encode())
    for file in files:
        status = file.stat()
        digest.update(f"{file.relative_to(folder)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]
