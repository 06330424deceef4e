"""Command `car-vae decompress`: codes to image files."""

from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np

from app.commands.codec import code_source, read_code
from app.commands.model import open_decompressor
from app.commands.tasks import Task, for_each, plan
from app.images.arrays import ImageArray
from app.images.encode import encode_avif, encode_jpeg, encode_webp, enlarge
from app.images.png import encode_png

ENCODERS: dict[str, Callable[[ImageArray], bytes]] = {
    "png": encode_png,
    "jpg": encode_jpeg,
    "jpeg": encode_jpeg,
    "webp": encode_webp,
    "avif": encode_avif,
}


def decompress(
    names: Sequence[str],
    model: Path,
    output: str | None,
    image_format: str | None,
    size: int | None,
    *,
    letterbox: bool,
    force: bool,
) -> None:
    """Write the image of each code.

    Args:
        names: of files of codes, or codes, or - alone.
        output: see `app.commands.tasks.plan`.
        image_format: one of ENCODERS; None is what the suffix of `output` says, else PNG.
        size: pixels of the longer edge; None leaves it as it is.
        letterbox: with the border that the model sees.
        force: replace files.

    Raises:
        ModelFolderError: the model is damaged, or has no codes.
        click.UsageError, OSError: see `app.commands.tasks.plan`.
        SystemExit: 1, where a code could not be read.
    """
    suffix = "" if output is None else Path(output).suffix.lower()[1:]
    chosen = image_format or (suffix if suffix in ENCODERS else "png")
    tasks = plan([code_source(name) for name in names], output, f".{chosen}")
    _check_suffixes(tasks, chosen)
    decompressor = open_decompressor(model)

    def work(task: Task) -> None:
        task.check(force=force)
        picture = decompressor.picture(read_code(task.source))
        image = picture.image if letterbox else np.ascontiguousarray(picture.cropped())
        task.write(ENCODERS[chosen](enlarge(image, size)))

    for_each(tasks, work)


def _check_suffixes(tasks: Sequence[Task], chosen: str) -> None:
    for destination in (task.destination for task in tasks):
        if destination is None or ENCODERS.get(destination.suffix.lower()[1:]) is ENCODERS[chosen]:
            continue
        name = click.format_filename(destination)
        raise click.UsageError(f"{name} would be a {chosen}: end it in .png, .jpg, .webp or .avif")
