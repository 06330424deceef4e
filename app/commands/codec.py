"""Codes as the user gives them, and the codec of a model folder, without its graphs."""

import os
import re
from pathlib import Path

from app.codes import wire
from app.codes.codec import CodeCodec
from app.commands.tasks import STREAM, Source
from app.errors import ModelFolderError
from app.inference.coder import read_codec
from app.model.manifest import Manifest, ModelFolder, read_model_file

WRITTEN = re.compile(r"[A-Za-z0-9_-]{2,}")
"""Base64 as codes have it; a lone - is standard input."""


def open_codec(folder: Path, manifest: Manifest) -> CodeCodec:
    """The codec of a model folder.

    Raises:
        ModelFolderError: it is damaged, or has no codes.
    """
    files = manifest.codes
    tables = {} if files is None else {files.tables: read_model_file(folder, files.tables)}
    codec = read_codec(ModelFolder(manifest, tables))
    if codec is None:
        raise ModelFolderError(f"{folder}: {manifest.id} has no codes; name a model that has, with --model")
    return codec


def code_source(name: str) -> Source:
    """A file, standard input, or a code itself where it is written like one and no file has this name."""
    is_code = not os.path.isfile(name) and WRITTEN.fullmatch(name)  # which, unlike Path's, takes any length
    return Source(name, None) if is_code else Source.of(name)


def read_code(source: Source) -> bytes:
    """The code in a file or in standard input, where it stands in bytes or as text, or that the name is.

    Raises:
        DamagedCode: it is not written as codes are. Of bytes nothing is told here.
        OSError: the file cannot be read.
    """
    if source.path is None and source.name != STREAM:
        return wire.from_text(source.name)
    content = source.read()
    text = content.strip().decode("latin-1")
    return wire.from_text(text) if WRITTEN.fullmatch(text) else content
