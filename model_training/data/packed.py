"""Packed dataset: training and validation images of one size in one file, ready to be trained on."""

import os
import zipfile
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

from model_training.data.split import ImageDataset

SUFFIX = ".npz"
Part = Literal["train", "validation"]


class PackedSource(NamedTuple):
    """A packed file, and the part of it that is meant; None where none was named."""

    path: Path
    part: Part | None

    @classmethod
    def parse(cls, source: str) -> "PackedSource | None":
        """FILE.npz, FILE.npz:train or FILE.npz:validation; None where it is something else."""
        for part in get_args(Part):
            if source.endswith(f"{SUFFIX}:{part}"):
                return cls(Path(source.removesuffix(f":{part}")), part)
        return cls(Path(source), None) if source.endswith(SUFFIX) else None


def pack(training: ImageDataset, validation: ImageDataset, path: Path) -> None:
    """Write both parts to one file, as they are: uint8, not compressed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}{SUFFIX}")
    np.savez(
        partial,
        train=training.images,
        train_names=np.array(training.names),
        validation=validation.images,
        validation_names=np.array(validation.names),
    )
    partial.replace(path)


def read_packed(path: Path, part: Part, width: int, height: int) -> ImageDataset:
    """One part of a packed file.

    Raises:
        ValueError: no such file, another kind of file, or images of another size than `width` x `height`.
    """
    try:
        with path.open("rb") as file, np.load(file) as stored:
            images, names = stored[part], stored[f"{part}_names"]
    except FileNotFoundError as error:
        raise ValueError(f"no file {str(path)!r}") from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged or was not written by pack: {error}") from error
    if images.dtype != np.uint8 or images.ndim != 4 or len(names) != len(images) or not len(images):
        raise ValueError(f"{path} was not written by pack: {part} is {images.dtype} {images.shape}")
    if images.shape[1:] != (height, width, 3):
        found = f"{images.shape[2]} x {images.shape[1]}"
        raise ValueError(f"{path} has pictures of {found}, and {width} x {height} are needed: pack them anew")
    return ImageDataset(images, tuple(names.tolist()))
