"""Tasks of a command: its sources, where what is made of each goes, and doing one after the other."""

import errno
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from app.errors import ServiceError

STREAM = "-"
"""Standard input as a source, standard output as a destination."""


@dataclass(frozen=True)
class Source:
    """What the user named; only a file has a path."""

    name: str
    path: Path | None

    @staticmethod
    def of(name: str) -> "Source":
        """A file, or standard input."""
        return Source(name, None if name == STREAM else Path(name))

    def read(self) -> bytes:
        """The content of the file, or of standard input.

        Raises:
            OSError.
        """
        return sys.stdin.buffer.read() if self.path is None else self.path.read_bytes()


@dataclass(frozen=True)
class Task:
    """A source, and the file that is made of it; None is standard output."""

    source: Source
    destination: Path | None

    def check(self, *, force: bool) -> None:
        """Raises FileExistsError where there is a file already, and no force to replace it."""
        if self.destination is not None and self.destination.is_file() and not force:
            raise FileExistsError(errno.EEXIST, "exists already; --force replaces it", str(self.destination))

    def write(self, content: bytes) -> None:
        """Write what was made.

        Raises:
            OSError.
        """
        if self.destination is None:
            click.echo(content, nl=False)
        else:
            self.destination.write_bytes(content)


def plan(sources: Sequence[Source], output: str | None, suffix: str) -> list[Task]:
    """Decide where everything goes before anything is done; a folder that is to take it is made.

    Args:
        output: a file for one source, a folder, or STREAM. None: beside each file; STREAM for what is none.
        suffix: of files that are named for their source, such as ".png".

    Raises:
        click.UsageError: two results would be one file, one would replace a source, has no name, or is bytes
            for a terminal.
        OSError: the folder cannot be made.
    """
    alone = len(sources) == 1
    if not alone and any(source.name == STREAM for source in sources):
        raise click.UsageError("standard input (-) goes by itself")
    if output == STREAM and not alone:
        raise click.UsageError("only what is made of one source goes to standard output")
    folder = None
    if output is not None and (not alone or output.endswith("/") or Path(output).is_dir()):
        folder = Path(output)
    if output is None or folder is not None:
        tasks = [Task(source, _destination(source, folder, suffix)) for source in sources]
    else:
        tasks = [Task(sources[0], None if output == STREAM else Path(output))]
    _check(tasks)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    return tasks


def for_each(tasks: Sequence[Task], work: Callable[[Task], None], *, says_lines: bool = False) -> None:
    """Do one task after the other; those that fail are named on stderr, and the others done.

    On a terminal a bar shows how far it is, unless the work writes lines to the same terminal.

    Args:
        work: may raise ServiceError and OSError.

    Raises:
        SystemExit: 1, at the end, where any failed.
    """
    failed = False
    hidden = len(tasks) == 1 or not sys.stderr.isatty() or (says_lines and sys.stdout.isatty())
    with click.progressbar(tasks, show_pos=True, hidden=hidden, file=sys.stderr) as bar:
        for task in bar:
            try:
                work(task)
            except BrokenPipeError:  # nobody reads on: click ends the program
                raise
            except (ServiceError, OSError) as error:
                failed = True
                line = f"Error: {_explained(task, error)}"
                click.echo(line if hidden else f"\r\x1b[K{line}", err=True)
    if failed:
        sys.exit(1)


def _destination(source: Source, folder: Path | None, suffix: str) -> Path | None:
    if source.path is None:
        if folder is None:
            return None
        raise click.UsageError(f"{_shown(source.name)} has no file name: name a file with --output")
    return (folder or source.path.parent) / (source.path.stem + suffix)


def _check(tasks: Sequence[Task]) -> None:
    originals = {task.source.path.resolve() for task in tasks if task.source.path is not None}
    made: dict[Path, Source] = {}
    for source, destination in ((task.source, task.destination) for task in tasks):
        if destination is None:
            if sys.stdout.isatty():
                raise click.UsageError("bytes are not for terminals: name a file with --output, or redirect")
            continue
        place = destination.resolve()
        if place in originals:
            raise click.UsageError(f"{_shown(destination)} would replace a source")
        if place in made:
            both = f"{_shown(made[place].name)} and {_shown(source.name)}"
            raise click.UsageError(f"{both} would both become {_shown(destination)}")
        made[place] = source


def _explained(task: Task, error: ServiceError | OSError) -> str:
    if not isinstance(error, OSError):
        return f"{_shown(task.source.name)}: {error}"
    return f"{_shown(error.filename or task.source.name)}: {error.strerror}"


def _shown(name: str | Path) -> str:
    return click.format_filename(name)
