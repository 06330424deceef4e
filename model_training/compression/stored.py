"""Codes of a model folder: their files written into it by training, and opened again."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from app.codes import wire
from app.codes.codec import CodeCodec, Filter
from app.codes.tables import CodeTables, Floats
from app.errors import ModelFolderError
from app.images.arrays import ImageArray
from app.model.manifest import CodeFiles, describe_file, read_model_folder, write_manifest
from model_training.backends.base import Backend
from model_training.backends.onnx_backend import BatchedSession

TABLES = "codes.npz"
FILTER = "codes-filter.onnx"


def write_codes(folder: Path, tables: CodeTables, post_filter: bytes | None) -> CodeFiles:
    """Put the tables and the post-filter, an ONNX file, into a model folder and into its manifest.

    Raises:
        ModelFolderError: there is no whole model folder.
    """
    manifest = read_model_folder(folder).manifest
    (folder / TABLES).write_bytes(tables.save())
    if post_filter is None:
        (folder / FILTER).unlink(missing_ok=True)
    else:
        (folder / FILTER).write_bytes(post_filter)
    files = CodeFiles(
        tag=wire.tag_of(manifest.version),
        tables=describe_file(folder / TABLES),
        filter=None if post_filter is None else describe_file(folder / FILTER),
    )
    write_manifest(folder, replace(manifest, codes=files))
    return files


def open_codes(folder: Path) -> tuple[CodeCodec, Filter | None]:
    """The codec of a model folder, and its post-filter where it has one.

    Raises:
        ModelFolderError: it has no codes, or is damaged.
    """
    model = read_model_folder(folder)
    files = model.manifest.codes
    if files is None:
        raise ModelFolderError(f"{folder} has no codes: run `python -m model_training fit-codes` on it")
    try:
        codec = CodeCodec.read(model.content(files.tables), files.tag)
    except ValueError as error:
        raise ModelFolderError(f"{folder / files.tables.path}: {error}") from error
    return codec, None if files.filter is None else run_filter(model.content(files.filter))


def run_filter(graph: bytes) -> Filter:
    """The post-filter of an ONNX file."""
    session = BatchedSession(graph)

    def filtered(layers: Floats, base: Floats, fineness: float) -> ImageArray:
        (images,) = session(layers[None], base[None], np.array([fineness], np.float32))
        image: ImageArray = images[0]
        return image

    return filtered


def decode_one(backend: Backend) -> Callable[[Floats], ImageArray]:
    """The decoder for one latent (L,)."""
    return lambda latent: backend.decode(latent[None])[0]
