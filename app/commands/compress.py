"""Command `car-vae compress`: image files to codes."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import click

from app.codes.wire import to_text
from app.commands.model import open_compressor
from app.commands.tasks import STREAM, Source, Task, for_each, plan
from app.inference.coder import PackedCode

SUFFIX = ".car"

Lines = Literal["text", "json"]
"""What is printed of each file."""


def compress(
    names: Sequence[str], model: Path, budget: int, lines: Lines | None, output: str | None, *, force: bool
) -> None:
    """Write the code of each image file, of at most `budget` bytes.

    Args:
        names: of image files, or - alone.
        lines: instead of files, and beside them where `output` is given.
        output: see `app.commands.tasks.plan`.
        force: replace files.

    Raises:
        ModelFolderError: the model is damaged, or has no codes.
        click.UsageError, OSError: see `app.commands.tasks.plan`.
        SystemExit: 1, where a file could not be compressed.
    """
    sources = [Source.of(name) for name in names]
    if lines is not None and output == STREAM:
        raise click.UsageError("lines and bytes do not go to standard output together")
    writes = lines is None or output is not None
    tasks = plan(sources, output, SUFFIX) if writes else [Task(source, None) for source in sources]
    several = len(tasks) > 1
    compressor = open_compressor(model)

    def work(task: Task) -> None:
        if writes:
            task.check(force=force)
        content = task.source.read()
        packed = compressor.compress(content, budget)
        if writes:
            task.write(packed.code)
        if lines is not None:
            click.echo(_line(task, packed, lines, several))
        elif not several and sys.stderr.isatty():
            click.echo(f"{len(content):,} -> {len(packed.code)} bytes, {packed.psnr:.2f} dB", err=True)

    for_each(tasks, work, says_lines=lines is not None)


def _line(task: Task, packed: PackedCode, lines: Lines, several: bool) -> str:
    code, name = to_text(packed.code), task.source.name
    if lines == "text":
        return f"{code}  {click.format_filename(name)}" if several else code
    figures = {"bytes": len(packed.code), "psnr": round(packed.psnr, 2), "ssim": round(packed.ssim, 4)}
    return json.dumps({"file": name, "code": code, **figures})
