"""The day of the card: how steps share its time, and all of it on the CPU with tiny networks."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from app.model.manifest import read_model_folder
from model_training.data.packed import pack
from model_training.data.split import ImageDataset
from model_training.data.synthetic import draw_cars
from tests.performance.gpu_day import __main__ as gpu_day
from tests.performance.gpu_day import parity, steps
from tests.performance.gpu_day.report import markdown
from tests.performance.gpu_day.steps import Outcome, Record, Step, last_line, run_all, run_step

QUICK = """
seed = 0
[model]
architecture = "subpixel"
width = 96
height = 64
latent_dim = 8
hidden = 16
encoder_channels = [4, 8, 4]
rank = 8
features = 4
channels = 8
depth = 1
[training]
epochs = 2
batch_size = 16
learning_rate = 1e-3
schedule = "cosine"
linear_rate = 0.1
average = 0.9
augment = true
[finetuning]
steps = 600
batch_size = 8
learning_rate = 1e-3
feature_weight = 1.0
refined = 0.5
refinement_steps = 1
[finetuning.features]
seed = 1
channels = [4, 8]
first_stride = 2
features = 8
epochs = 1
batch_size = 32
learning_rate = 1e-3
temperature = 0.1
[prior]
steps = 20
copies = 1
[prior.coarse]
coordinates = 8
[prior.coarse.teacher]
channels = 8
blocks = 1
dense_width = 32
dense_blocks = 1
global_width = 16
batch_size = 32
[prior.coarse.weak]
channels = 8
blocks = 1
dense_width = 32
dense_blocks = 1
global_width = 16
batch_size = 32
[prior.coarse.paths]
count = 256
[prior.coarse.student]
width = 32
depth = 2
[prior.coarse.fake]
width = 32
blocks = 1
[prior.coarse.matching]
batch_size = 32
fake_batch_size = 32
"""
LONG = """
seed = 0
[model]
width = 96
height = 64
channels = [4, 8]
latent_dim = 8
[training]
epochs = 2
batch_size = 16
learning_rate = 1e-3
"""


def program(name: str, code: str, **fields: object) -> Step:
    """A step that runs a line of Python."""
    return Step(name, 1.0, lambda: ["-c", code], **fields)  # type: ignore[arg-type]


def at_once(tmp_path: Path, step: Step) -> Outcome:
    return run_step(step, time.monotonic() + 600, tmp_path, {})


def test_a_program_that_ends_well_gives_its_figures(tmp_path: Path) -> None:
    step = program("one", "print('fine')", figures=lambda: {"psnr": 20.5})
    outcome = at_once(tmp_path, step)
    assert (outcome.status, outcome.detail, outcome.figures) == ("done", "", {"psnr": 20.5})
    assert (tmp_path / "one.log").read_text() == "fine\n"
    assert 0 < outcome.seconds < outcome.limit <= 600


def test_one_that_fails_is_told_by_what_it_said_last(tmp_path: Path) -> None:
    step = program("one", "import sys; print('loading'); sys.exit('error: no card')")
    outcome = at_once(tmp_path, step)
    assert (outcome.status, outcome.detail) == ("failed", "error: no card")


def test_one_that_leaves_no_figures_has_failed(tmp_path: Path) -> None:
    missing = tmp_path / "none.json"
    step = program("one", "", figures=lambda: dict(json.loads(missing.read_text())))
    outcome = at_once(tmp_path, step)
    assert outcome.status == "failed"
    assert outcome.detail.startswith("it left no figures: ")


def test_it_is_tried_again_with_the_fallback_and_both_are_told(tmp_path: Path) -> None:
    code = "import sys; sys.exit(0 if 'plain' in sys.argv else 'no compiler')"
    outcome = at_once(tmp_path, program("one", code, fallback=["plain"]))
    assert (outcome.status, outcome.detail) == ("done", "with plain only; without: no compiler")
    outcome = at_once(tmp_path, program("two", "import sys; sys.exit('no card')", fallback=["plain"]))
    assert (outcome.status, outcome.detail) == ("failed", "no card; with plain only; without: no card")


def test_what_it_needs_is_said_where_it_is_not_there(tmp_path: Path) -> None:
    outcome = at_once(tmp_path, program("one", "", needs=[tmp_path, tmp_path / "best.pt"]))
    assert (outcome.status, outcome.detail) == ("skipped", f"there is no {tmp_path / 'best.pt'}")


def test_one_that_takes_too_long_is_ended_and_keeps_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "STOP_SECONDS", 1.0)
    monkeypatch.setattr(steps, "LEAST_SECONDS", 0.1)
    step = program("one", "import time; time.sleep(600)", figures=lambda: {"epochs": 3})
    outcome = run_step(step, time.monotonic() + 1.2, tmp_path, {})
    assert (outcome.status, outcome.figures) == ("out of time", {"epochs": 3})
    outcome = run_step(step, time.monotonic() + 0.5, tmp_path, {})
    assert (outcome.status, outcome.detail) == ("out of time", "earlier steps took it all")


def test_a_day_goes_on_after_failures_and_where_it_stopped(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    every = [
        program("train", f"open({str(mark)!r}).read()"),
        program("export", "print(1)", after=["train"]),
        program("serve", "print(1)"),
    ]
    told: list[str] = []

    def finished(name: str, outcome: Outcome) -> None:
        told.append(f"{name} {outcome.status}")

    record = Record(tmp_path / "report.json")
    run_all(every, record, 600, {}, finished)
    assert told == ["train failed", "export done", "serve done"]
    assert record.outcomes["train"].limit == pytest.approx(200, abs=1)
    assert record.outcomes["export"].limit > 200  # what training left over

    mark.touch()
    told.clear()
    again = Record(tmp_path / "report.json")
    assert again.outcomes == record.outcomes
    run_all(every, again, 600, {}, finished)
    assert told == ["train done", "export done"]  # of another training; the service stays as it was
    told.clear()
    run_all(every, Record(tmp_path / "report.json"), 600, {}, finished)
    assert told == []


@pytest.mark.parametrize("content", ["", "{}", '{"steps": {"train": {"status": "done"}}}', "[]"])
def test_a_damaged_record_is_refused_by_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(ValueError, match=r"report\.json is damaged"):
        Record(tmp_path / "report.json")


def test_the_last_line_is_what_stands_there_in_the_end(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"start\n1 of 9\r2 of 9\rerror: full \xff\n\n")
    assert last_line(tmp_path / "log") == "error: full \N{REPLACEMENT CHARACTER}"
    (tmp_path / "log").write_bytes(b"")
    assert last_line(tmp_path / "log") == "it said nothing"


def test_a_report_says_of_every_step_how_it_ended() -> None:
    every = [program("machine", ""), program("train-best", ""), program("prior-best", ""), program("x", "")]
    training = {"epochs": 3, "of": 46, "best_epoch": 2, "validation_psnr": 20.5, "validation_loss": 7000.0}
    text = markdown(
        every,
        {
            "machine": Outcome("done", "", 1, 10, {"GPU": "Card X"}),
            "train-best": Outcome("out of time", "stopped | saved", 99, 99, training),
            "prior-best": Outcome("done", "", 30, 99, {"steps": 100, "of": 5000}),
        },
        "The day",
    )
    assert text.startswith("# The day\n\n- GPU: Card X\n")
    assert "| train-best | **out of time** | 99 | 99 | stopped / saved |" in text
    assert "| x | not begun |  |  |  |" in text
    assert "| best | 3 | 46 | 99 | 2 | 20.50 | 7000 |" in text
    assert "| best | 100 | 5000 | 30 | 25 |" in text


def test_a_device_whose_latents_are_off_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    encode = parity.SessionGraphs.encode
    made: list[parity.SessionGraphs] = []

    def off(self: parity.SessionGraphs, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        made.append(self)
        mean, log_variance = encode(self, images)
        return mean + 0.01 * (self is made[0]), log_variance

    monkeypatch.setattr(parity.SessionGraphs, "encode", off)
    told = ["--model-dir", "models/car-vae/1", "--device", "cpu", "--out", str(tmp_path / "parity.json")]
    assert parity.main(told) == 1
    assert "differs from PyTorch by more than allowed" in capsys.readouterr().err
    assert not (tmp_path / "parity.json").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="the account of the service's CPU time reads /proc")
def test_the_whole_day_on_the_cpu_with_tiny_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # networks of this size only lose by being shared out
    cars = draw_cars(96, 96, 64, seed=3)
    names = tuple(map(str, range(96)))
    packed = tmp_path / "cars.npz"
    pack(ImageDataset(cars[:64], names[:64]), ImageDataset(cars[64:], names[64:]), packed)
    for name, recipe in (("quick", QUICK), ("long", LONG)):
        (tmp_path / f"{name}.toml").write_text(recipe)
    out = tmp_path / "day"
    recipes = ["--quick", str(tmp_path / "quick.toml"), "--long", str(tmp_path / "long.toml")]
    told = ["--data", str(packed), "--out", str(out), "--device", "cpu", "--minutes", "20", *recipes]
    less = ["--finetune-steps", "2", "--prior-steps", "10", "--load-seconds", "0.3"]
    assert gpu_day.main([*told, *less]) == 0
    found = json.loads((out / "report.json").read_text())["steps"]
    assert {name: step["status"] for name, step in found.items()} == dict.fromkeys(
        [
            "machine",
            "parity-car-vae-2",
            "train-quick",
            "finetune-quick",
            "prior-quick",
            "refiner-quick",
            "export-quick",
            "parity-quick",
            "service-quick",
            "train-long",
            "export-long",
            "parity-long",
        ],
        "done",
    )
    assert found["train-quick"]["figures"]["epochs"] == 2
    for name, done, every in (("finetune-quick", 2, 600), ("prior-quick", 10, 20)):
        assert (found[name]["figures"]["steps"], found[name]["figures"]["of"]) == (done, every)
    exported = read_model_folder(out / "models" / "quick" / "1").manifest.files
    assert exported.prior is not None
    assert exported.refiner is not None
    assert found["export-quick"]["figures"]["pictures"] == 32
    for name in ("parity-car-vae-2", "parity-quick", "parity-long"):
        figures = found[name]["figures"]
        assert figures["provider"] == "CPUExecutionProvider"
        assert figures["encoder_mean"] == figures["decoder_grey_levels"] == 0
    service = found["service-quick"]["figures"]
    assert service["answers_checked"] > 50
    assert set(service["workloads"]) == {
        "encode-256", "encode-1080p", "encode-16", "decode-1", "decode-64", "reconstruct"
    }  # fmt: skip
    assert all(measured["requests_per_second"] > 0 for measured in service["workloads"].values())
    assert "## The service" in (out / "report.md").read_text()
