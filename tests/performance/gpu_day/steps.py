"""Steps of the day: programs one after another, each within its share of the time; none fails another."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

STOP_SECONDS = 15.0
"""What a program has after SIGTERM to save what it did; it comes out of its own time."""
LEAST_SECONDS = 2.0
"""With less than this left, beside what stopping takes, a step is not begun."""

Status = Literal["done", "failed", "out of time", "skipped"]
Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """One program.

    Attributes:
        share: of the whole time, in seconds; what it leaves over goes to the steps after it.
        command: arguments of Python, made when the step begins, as what earlier tries left may change them.
        needs: what must be there; a part of what an earlier step makes is enough, as of a training.
        after: steps whose new results make this one's old result worthless.
        figures: what it found, read when it has ended, however it ended.
        fallback: arguments to try once more with where it failed.
    """

    name: str
    share: float
    command: Callable[[], Sequence[str]]
    needs: Sequence[Path] = ()
    after: Sequence[str] = ()
    figures: Callable[[], Figures] = field(default=dict)
    fallback: Sequence[str] = ()


@dataclass(frozen=True)
class Outcome:
    """How a step ended.

    Attributes:
        detail: why it is not done, in one line; of one that is done, what it needed a second try for.
        seconds: that it took, and `limit`, that it might have taken.
    """

    status: Status
    detail: str
    seconds: float
    limit: float
    figures: Figures


class Record:
    """Outcomes so far, in a file that is written after each step, so that a day that is cut off goes on."""

    def __init__(self, path: Path) -> None:
        """Read what an earlier try left.

        Raises:
            ValueError: the file is damaged.
        """
        self.path = path
        self.outcomes: dict[str, Outcome] = {}
        if path.is_file():
            try:
                found = json.loads(path.read_text())["steps"]
                self.outcomes = {name: Outcome(**values) for name, values in found.items()}
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{path} is damaged; remove it to begin anew") from error

    def put(self, name: str, outcome: Outcome) -> None:
        """Remember an outcome, on disk too."""
        self.outcomes[name] = outcome
        document = {"steps": {name: asdict(outcome) for name, outcome in self.outcomes.items()}}
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(document, indent=1) + "\n")
        partial.replace(self.path)


def run_all(
    steps: Sequence[Step],
    record: Record,
    seconds: float,
    environment: Mapping[str, str],
    finished: Callable[[str, Outcome], None],
) -> None:
    """Run what the record does not have as done, in order, within `seconds` in all.

    Args:
        environment: added to this process's own.
        finished: is told of each step as it ends.
    """
    began = time.monotonic()
    scale = seconds / sum(step.share for step in steps)
    deadline, again = began, set[str]()
    for step in steps:
        deadline += step.share * scale
        before = record.outcomes.get(step.name)
        if before is not None and before.status == "done" and not again & set(step.after):
            continue
        outcome = run_step(step, deadline, record.path.parent, environment)
        if outcome.status != "skipped":
            again.add(step.name)
        record.put(step.name, outcome)
        finished(step.name, outcome)


def run_step(step: Step, deadline: float, folder: Path, environment: Mapping[str, str]) -> Outcome:
    """Run a step until a deadline of time.monotonic(); what it prints goes to folder/NAME.log."""
    missing = next((path for path in step.needs if not path.exists()), None)
    began = time.monotonic()
    limit = max(0.0, deadline - began)
    if missing is not None:
        return Outcome("skipped", f"there is no {missing}", 0.0, limit, {})
    log = folder / f"{step.name}.log"
    if limit < STOP_SECONDS + LEAST_SECONDS:
        return Outcome("out of time", "earlier steps took it all", 0.0, limit, {})
    status = _run(step.command(), log, deadline - STOP_SECONDS, environment)
    detail = "" if status == "done" else last_line(log)
    if status == "failed" and step.fallback and deadline - time.monotonic() > STOP_SECONDS + LEAST_SECONDS:
        log.rename(log.with_suffix(".first.log"))
        status = _run([*step.command(), *step.fallback], log, deadline - STOP_SECONDS, environment)
        again = f"with {' '.join(step.fallback)} only; without: {detail}"
        detail = again if status == "done" else f"{last_line(log)}; {again}"
    try:
        figures = step.figures()
    except (OSError, ValueError, KeyError) as error:
        figures = {}
        if status == "done":
            status, detail = "failed", f"it left no figures: {error}"
    return Outcome(status, detail, time.monotonic() - began, limit, figures)


def _run(command: Sequence[str], log: Path, stop_at: float, environment: Mapping[str, str]) -> Status:
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,
        ) as process,
    ):
        try:
            code = process.wait(max(0.0, stop_at - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
            return "out of time"
        finally:
            with suppress(ProcessLookupError):  # whatever it started, and itself where it would not end
                os.killpg(process.pid, signal.SIGKILL)
    return "done" if code == 0 else "failed"


def last_line(log: Path) -> str:
    """The last line with something in it, without what a progress bar drew over."""
    lines = log.read_text(errors="replace").replace("\r", "\n").splitlines()
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "it said nothing")
