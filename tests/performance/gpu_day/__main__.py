"""`python -m tests.performance.gpu_day`: train, fine-tune, prove and serve on a card, in ten minutes."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from model_training.recipe import Recipe
from model_training.run_folder import BEST, LATEST, METRICS, PRIOR, REFINER
from tests.performance.bench.servers import REPOSITORY
from tests.performance.gpu_day.report import MACHINE, markdown
from tests.performance.gpu_day.steps import Figures, Outcome, Record, Step, run_all

ROOM = "tests.performance.gpu_day"
SHIPPED = Path("models/car-vae/2")


@dataclass(frozen=True)
class Day:
    """What is done.

    Attributes:
        data: images, with those to validate on: a file of `pack`.
        quick, long: recipes; the first is trained, served and measured before the second begins.
        finetune_steps, prior_steps: of the first one's fine-tuning, where its recipe has that, and of the fit
            of its prior, which run on the CPU.
        load_seconds: of each measurement of the service.
    """

    device: str
    data: str
    out: Path
    quick: str
    long: str
    finetune_steps: int
    prior_steps: int
    load_seconds: float

    def steps(self) -> list[Step]:
        """All of them, those first that the others rest on, the longest and the least certain last."""
        recipe = Recipe.load(self.quick)
        quick, long, tuned = recipe.name, Recipe.load(self.long).name, recipe.finetuning is not None
        machine = [f"{ROOM}.machine", "--device", self.device, "--model-dir", str(SHIPPED)]
        return [
            self._checked(MACHINE, 25, machine, []),
            self._parity("car-vae-2", SHIPPED, 25, ()),
            self._train(quick, self.quick, 115),
            *([self._finetune(quick, self.quick, 90)] if tuned else []),
            self._prior(quick, self.quick, 40),
            *([self._refiner(quick, 20)] if tuned else []),
            self._export(quick, 70),
            self._parity(quick, self._model(quick), 20, (f"export-{quick}",)),
            self._service(quick, 55),
            self._train(long, self.long, 100),
            self._export(long, 40),
            self._parity(long, self._model(long), 15, (f"export-{long}",)),
        ]

    def _run(self, name: str) -> Path:
        return self.out / name

    def _tuned(self, name: str) -> Path:
        return self.out / f"{name}-tuned"

    def _best(self, name: str) -> Path:
        """The run to go on with: the fine-tuned one, where that was finished."""
        tuned = self._tuned(name)
        return tuned if (tuned / BEST).is_file() else self._run(name)

    def _model(self, name: str) -> Path:
        return self.out / "models" / name / "1"

    @property
    def _validation(self) -> str:
        return f"{self.data}:validation" if self.data.endswith(".npz") else self.data

    @property
    def _training(self) -> str:
        return f"{self.data}:train" if self.data.endswith(".npz") else self.data

    @property
    def _machine(self) -> Path:
        return self.out / f"{MACHINE}.json"

    def _checked(
        self, name: str, share: float, command: list[str], needs: list[Path], after: Sequence[str] = ()
    ) -> Step:
        """A step of this folder, which writes its figures to a file."""
        out = self.out / f"{name}.json"

        def arguments() -> list[str]:
            out.unlink(missing_ok=True)  # of an earlier try
            return ["-m", *command, "--out", str(out)]

        return Step(name, share, arguments, needs, after, figures=lambda: dict(json.loads(out.read_text())))

    def _train(self, name: str, recipe: str, share: float) -> Step:
        run = self._run(name)

        def arguments() -> list[str]:
            told = ["--recipe", recipe, "--data", self.data, "--out", str(run), "--device", self.device]
            resumed = ["--resume"] if (run / LATEST).is_file() else []
            return ["-m", "model_training", "train", *told, *resumed]

        figures = partial(training_figures, run, Recipe.load(recipe).training.epochs)
        return Step(
            f"train-{name}", share, arguments, [self._machine], figures=figures, fallback=["--no-compile"]
        )

    def _export(self, name: str, share: float) -> Step:
        model = self._model(name)
        told = ["--out", str(model), "--data", self._validation]
        return Step(
            f"export-{name}",
            share,
            lambda: ["-m", "model_training", "export", str(self._best(name)), *told],
            [self._run(name) / BEST],
            [f"{made}-{name}" for made in ("train", "finetune", "prior", "refiner")],
            figures=lambda: dict(json.loads((model / "model.json").read_text())["metrics"]),
        )

    def _parity(self, name: str, model: Path, share: float, after: Sequence[str]) -> Step:
        told = ["--model-dir", str(model), "--device", self.device, "--data", self._validation]
        needs = [self._machine, model / "model.json"]
        return self._checked(f"parity-{name}", share, [f"{ROOM}.parity", *told], needs, after)

    def _service(self, name: str, share: float) -> Step:
        model = self._model(name)
        told = ["--model-dir", str(model), "--device", self.device, "--seconds", str(self.load_seconds)]
        needs, after = [self._machine, model / "model.json"], [f"export-{name}"]
        return self._checked(f"service-{name}", share, [f"{ROOM}.load", *told], needs, after)

    def _finetune(self, name: str, recipe: str, share: float) -> Step:
        run, tuned = self._run(name), self._tuned(name)
        told = [str(run), "--recipe", recipe, "--data", self.data, "--out", str(tuned)]

        def arguments() -> list[str]:
            (tuned / BEST).unlink(missing_ok=True)  # of an earlier training
            return ["-m", "model_training", "finetune", *told, "--steps", str(self.finetune_steps)]

        def figures() -> Figures:
            config = Recipe.load(recipe).finetuning
            assert config is not None
            size = (tuned / BEST).stat().st_size
            return {"steps": self.finetune_steps, "of": config.steps, "bytes": size}

        return Step(f"finetune-{name}", share, arguments, [run / BEST], [f"train-{name}"], figures=figures)

    def _prior(self, name: str, recipe: str, share: float) -> Step:
        told = ["--data", self.data, "--steps", str(self.prior_steps)]

        def figures() -> Figures:
            size = (self._best(name) / PRIOR).stat().st_size
            return {"steps": self.prior_steps, "of": Recipe.load(recipe).prior.steps, "bytes": size}

        return Step(
            f"prior-{name}",
            share,
            lambda: ["-m", "model_training", "fit-prior", str(self._best(name)), *told],
            [self._run(name) / BEST],
            [f"train-{name}", f"finetune-{name}"],
            figures=figures,
        )

    def _refiner(self, name: str, share: float) -> Step:
        return Step(
            f"refiner-{name}",
            share,
            lambda: ["-m", "model_training", "fit-refiner", str(self._best(name)), "--data", self._training],
            [self._run(name) / BEST],
            [f"train-{name}", f"finetune-{name}"],
            figures=lambda: {"bytes": (self._best(name) / REFINER).stat().st_size},
        )


def training_figures(run: Path, epochs: int) -> Figures:
    """How far a run came, and its best epoch."""
    lines = [json.loads(line) for line in (run / METRICS).read_text().splitlines()]
    if not lines:
        raise ValueError("not one epoch was finished")
    best = min(lines, key=lambda line: float(line["validation_loss"]))
    return {
        "epochs": lines[-1]["epoch"],
        "of": epochs,
        "best_epoch": best["epoch"],
        "validation_psnr": best["validation_psnr"],
        "validation_loss": best["validation_loss"],
    }


def run(day: Day, seconds: float) -> int:
    """The day, within so many seconds; the report is written anew after each step. 1 where one is not done.

    Raises:
        ValueError: no such recipe, or a damaged record of an earlier try.
    """
    steps = day.steps()
    day.out.mkdir(parents=True, exist_ok=True)
    record = Record(day.out / "report.json")
    title = f"The day of the {'card' if day.device == 'cuda' else 'CPU'}"

    def finished(name: str, outcome: Outcome) -> None:
        (day.out / "report.md").write_text(markdown(steps, record.outcomes, title))
        print(f"{name}: {outcome.status}, {outcome.seconds:.0f} s {outcome.detail}", file=sys.stderr)

    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    run_all(steps, record, seconds, {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}, finished)
    text = markdown(steps, record.outcomes, title)
    (day.out / "report.md").write_text(text)
    print(text)
    return 0 if all(record.outcomes[step.name].status == "done" for step in steps) else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and run; the same command goes on where an earlier one stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # on the way out the step that runs is ended
    parser = argparse.ArgumentParser(prog="python -m tests.performance.gpu_day", description=__doc__)
    parser.add_argument("--data", required=True, help="FILE.npz of `python -m model_training pack`")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu-day"))
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--minutes", type=float, default=9.5, help="for everything; default: %(default)s")
    parser.add_argument("--quick", default="best", metavar="RECIPE", help="trained first; %(default)s")
    parser.add_argument("--long", default="seed", metavar="RECIPE", help="trained last; %(default)s")
    parser.add_argument(
        "--finetune-steps", type=int, default=100, help="of fine-tuning, on the CPU; default: %(default)s"
    )
    parser.add_argument(
        "--prior-steps", type=int, default=100, help="of the prior's fit, on the CPU; default: %(default)s"
    )
    parser.add_argument("--load-seconds", type=float, default=3, help="of each measurement of the service")
    options = parser.parse_args(arguments)
    day = Day(
        options.device,
        options.data,
        options.out.resolve(),
        options.quick,
        options.long,
        options.finetune_steps,
        options.prior_steps,
        options.load_seconds,
    )
    try:
        return run(day, 60 * options.minutes)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
