"""Fit of a model's atlas (command fit-atlas), and its files in the model folder."""

import dataclasses
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.images.arrays import ImageArray
from app.model.atlas import Atlas
from app.model.manifest import AtlasFiles, describe_file, read_model_folder, write_manifest
from app.model.prior import Prior, read_prior
from model_training.atlas.directions import fit_directions
from model_training.atlas.layout import fit_map
from model_training.atlas.likeness import STEPS, fit_likeness
from model_training.backends.base import Backend
from model_training.backends.onnx_backend import OnnxBackend

TABLES = "atlas.npz"
SHEET = "map.webp"
QUALITY = 40


def fit_atlas(
    folder: Path, images: ImageArray, held_out: ImageArray, more: ImageArray | None = None, steps: int = STEPS
) -> tuple[AtlasFiles, Atlas]:
    """Fit directions, likeness and map of an exported model, and record them in its folder.

    Args:
        folder: the model folder; it needs a prior.
        images: training images, each of one car that fills it.
        held_out: images of the same kind that set the limit of the likeness.
        more: other images with cars, from which the likeness learns too.
        steps: of its training.

    Raises:
        ModelFolderError: the folder is damaged.
        ValueError: there are too few images, or the model has no prior.
    """
    model = read_model_folder(folder)
    manifest = model.manifest
    if manifest.files.prior is None:
        raise ValueError("this model has no fitted prior, of which a map could be drawn")
    prior = read_prior(model.content(manifest.files.prior), manifest.latent_dim)
    backend = OnnxBackend(folder)
    directions = fit_directions(backend, images)
    cars = images if more is None else np.concatenate([images, more])
    likeness = fit_likeness(backend, cars, held_out, steps)
    seeds = fit_map(prior, directions, likeness)
    atlas = Atlas(directions, likeness, seeds, draw_sheet(backend, prior, seeds))
    (folder / TABLES).write_bytes(atlas.tables())
    (folder / SHEET).write_bytes(atlas.sheet)
    files = AtlasFiles(describe_file(folder / TABLES), describe_file(folder / SHEET))
    write_manifest(folder, dataclasses.replace(manifest, atlas=files))
    return files, atlas


def draw_sheet(backend: Backend, prior: Prior, seeds: NDArray[np.int64]) -> bytes:
    """The cars of (rows, columns) seeds as one WebP file, each in its place."""
    rows, columns = seeds.shape
    latents = np.concatenate([prior.draw(1, int(seed)) for seed in seeds.ravel()])
    images = backend.decode(latents).reshape(rows, columns, backend.height, backend.width, 3)
    sheet = images.swapaxes(1, 2).reshape(rows * backend.height, columns * backend.width, 3)
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "WEBP", quality=QUALITY, method=6)
    return buffer.getvalue()


def share_of_cars(folder: Path, atlas: Atlas, images: ImageArray) -> float:
    """How many of images (N, height, width, 3) the atlas of a model takes for cars, from 0 to 1."""
    assert atlas.likeness is not None
    latents, _ = OnnxBackend(folder).encode(images)
    return float((atlas.likeness(latents) >= 0.5).mean())
