"""Command `car-vae info`: what a code says of itself."""

import sys
from pathlib import Path

import click
import numpy as np

from app.codes import wire
from app.codes.codec import CodeCodec
from app.codes.content import CodeContent
from app.codes.tables import Integers
from app.commands.codec import code_source, open_codec, read_code
from app.errors import WrongModel
from app.model.manifest import read_manifest


def info(name: str, model: Path) -> None:
    """Print what a code says of itself.

    Args:
        name: of a file of a code, a code, or -.

    Raises:
        DamagedCode: it is none.
        ModelFolderError: the model is damaged, or has no codes.
        OSError: the file cannot be read.
        SystemExit: 1, where it is a code of another model.
    """
    code = read_code(code_source(name))
    tag = code[0] if code else 0
    wire.unseal(tag, code)  # by itself, it is whole or not
    _line("bytes", f"{len(code)}, as text {len(wire.to_text(code))} characters")
    _line("format", tag >> 5)
    manifest = read_manifest(model)
    codec = open_codec(model, manifest)
    try:
        content = codec.unpack(code)
    except WrongModel as error:
        _line("model", f"version {tag % wire.VERSIONS}")
        _line("readable", f"no: {error}")
        sys.exit(1)
    _line("model", manifest.id)
    _describe(codec, content)
    _line("readable", "yes")


def _describe(codec: CodeCodec, content: CodeContent) -> None:
    left, top, right, bottom = codec.box(content)
    _line("shape", f"{right - left} x {bottom - top}")
    _line("fineness", f"{codec.fineness(content):.2f} from 0 to 1")
    _line("latent", _counted(content.latent.values))
    _line("residual", "none" if content.residual is None else _counted(content.residual.values))


def _counted(values: Integers) -> str:
    return f"{np.count_nonzero(values)} of {values.size} numbers are not 0"


def _line(name: str, value: object) -> None:
    click.echo(f"{name:<9} {value}")
