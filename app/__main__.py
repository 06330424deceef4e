"""Program `car-vae`, also `python -m app`: its commands, each of which imports what it needs when it runs.

Exit code 0 when all went well, 1 after an error that is said in a line, 2 for arguments that mean nothing.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import click

from app import version
from app.errors import ServiceError, StartupError
from app.model.default_model import default_model_dir


class _Serve(click.Command):
    """A command whose help ends with the settings. There are no options for them: all are variables."""

    def format_epilog(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        from app.settings import Settings

        with formatter.section("Settings, by environment variables"):
            formatter.write_dl(
                [
                    (f"CAR_VAE_{name.upper()}", field.description or "")
                    for name, field in Settings.model_fields.items()
                ]
            )


class _OnCodes(click.Command):
    """A command whose errors are said in a line."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except (ServiceError, StartupError) as error:
            raise click.ClickException(str(error)) from error
        except BrokenPipeError:  # nobody reads on: click ends the program
            raise
        except OSError as error:
            place = f"{click.format_filename(error.filename)}: " if error.filename else ""
            raise click.ClickException(f"{place}{error.strerror}") from error


@click.group(invoke_without_command=True)
@click.version_option(version(), message="car-vae %(version)s")
@click.pass_context
def program(context: click.Context) -> None:
    """Photographs of cars as codes of 16 to 400 bytes, and a service that makes and reads them.

    Without a command it serves.
    """
    if context.invoked_subcommand is None:
        context.invoke(serve)


@program.command(cls=_Serve)
def serve() -> None:
    """Serve the model over HTTP until SIGTERM."""
    from app.serve import run

    sys.exit(run())


_MODEL = click.option(
    "--model",
    type=click.Path(path_type=Path, file_okay=False),
    default=default_model_dir,
    envvar="CAR_VAE_MODEL_DIR",
    show_envvar=True,
    help="Folder of the model whose codes they are.  [default: the one that the program brings]",
)
_OUTPUT = click.option(
    "-o", "--output", metavar="PATH", type=click.Path(allow_dash=True), help="Where to write, as said above."
)
_FORCE = click.option("-f", "--force", is_flag=True, help="Replace files that are there already.")


@program.command(cls=_OnCodes)
@click.argument("files", nargs=-1, required=True, type=click.Path(allow_dash=True))
@click.option(
    "--bytes",
    "budget",
    metavar="N",
    type=click.IntRange(16, 400),
    default=94,
    show_default=True,
    help="At most so many for each code: 94 keep kind, colour and view of the car, 255 nearly all.",
)
@click.option("--text", "lines", flag_value="text", help="Print codes as text, as addresses have them.")
@click.option(
    "--json", "lines", flag_value="json", help="Print a line of JSON: file, code, bytes, psnr (dB) and ssim."
)
@_OUTPUT
@_FORCE
@_MODEL
def compress(
    files: tuple[str, ...],
    budget: int,
    lines: Literal["text", "json"] | None,
    output: str | None,
    force: bool,
    model: Path,
) -> None:
    """Turn photographs of cars into codes.

    photo.jpg becomes photo.car beside it. --output names a file for one photograph, or a folder. Standard
    input (-) goes to standard output, as one photograph does with --output -. With --text or --json lines
    are printed, and files written only where --output says so.

    Exit code 1 where a file could not be compressed: it is named, and the others are done.
    """
    from app.commands.compress import compress

    compress(files, model, budget, lines, output, force=force)


@program.command(cls=_OnCodes)
@click.argument("codes", nargs=-1, required=True, type=click.Path(allow_dash=True))
@click.option(
    "--format",
    "image_format",
    type=click.Choice(["png", "jpg", "webp", "avif"]),
    help="Of the pictures; else the suffix of --output says it, else it is png.",
)
@click.option(
    "--size",
    metavar="N",
    type=click.IntRange(16, 2048),
    help="Pixels of the longer edge; else as the model has it, 96 or fewer.",
)
@click.option("--letterbox", is_flag=True, help="With the border that the model sees around other shapes.")
@_OUTPUT
@_FORCE
@_MODEL
def decompress(
    codes: tuple[str, ...],
    image_format: str | None,
    size: int | None,
    letterbox: bool,
    output: str | None,
    force: bool,
    model: Path,
) -> None:
    """Turn codes into pictures.

    A code is a file that compress wrote, or the text of a code, or - for either on standard input. photo.car
    becomes photo.png beside it. --output names a file for one code, or a folder. What is no file goes to
    standard output, as one picture does with --output -.

    Exit code 1 where a code could not be read: it is named, and the others are done.
    """
    from app.commands.decompress import decompress

    decompress(codes, model, output, image_format, size, letterbox=letterbox, force=force)


@program.command(cls=_OnCodes)
@click.argument("code", type=click.Path(allow_dash=True))
@_MODEL
def info(code: str, model: Path) -> None:
    """Say what a code is of: its format and model, its bytes, the shape of the photograph.

    CODE is a file that compress wrote, or the text of a code, or - for standard input. Exit code 1 where this
    program cannot read it.
    """
    from app.commands.info import info

    info(code, model)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program; it ends with SystemExit, which has the exit code."""
    program.main(arguments, prog_name="car-vae")


if __name__ == "__main__":
    main()
