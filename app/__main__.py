"""Program `car-vae`, also `python -m app`: its commands, each of which imports what it needs when it runs.

Exit code 0 when all went well, 1 after an error that is said in a line, 2 for arguments that mean nothing.
"""

import sys
from collections.abc import Sequence

import click

from app import version


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


@click.group(invoke_without_command=True)
@click.version_option(version(), message="car-vae %(version)s")
@click.pass_context
def program(context: click.Context) -> None:
    """A variational autoencoder for photographs of cars. Without a command it serves."""
    if context.invoked_subcommand is None:
        context.invoke(serve)


@program.command(cls=_Serve)
def serve() -> None:
    """Serve the model over HTTP until SIGTERM."""
    from app.serve import run

    sys.exit(run())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program; it ends with SystemExit, which has the exit code."""
    program.main(arguments, prog_name="car-vae")


if __name__ == "__main__":
    main()
