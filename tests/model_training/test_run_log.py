"""The log: one line an epoch whatever happens, and images for TensorBoard from one process alone."""

import json
import logging
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing import event_accumulator  # type: ignore[import-untyped]

from app.images.arrays import ImageArray
from model_training.recipe import Recipe
from model_training.run_folder import LATEST, METRICS, TENSORBOARD
from model_training.run_log import RunLog
from model_training.train import train
from model_training.training_state import TrainingState
from tests.model_training.conftest import ONE_PROCESS, RECIPE, logged_epochs

FIGURES = {"total": 3.0, "validation_loss": 2.0, "validation_psnr": 20.0}


@pytest.fixture
def state() -> TrainingState:
    return TrainingState.start(RECIPE, torch.device("cpu"))


def test_an_epoch_is_a_line_of_json_and_a_line_of_log_where_no_bar_is_shown(
    state: TrainingState, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state.epoch = 1
    with RunLog(tmp_path, state, 5, active=True) as run_log, caplog.at_level(logging.INFO):
        run_log.bar.disable = True
        run_log.log_epoch(state, FIGURES)
    assert json.loads((tmp_path / METRICS).read_text()) == {"epoch": 1, **FIGURES}
    assert "epoch 1: loss 3.0, validation loss 2.0, validation PSNR 20.00 dB" in caplog.text


def test_a_log_that_is_not_active_writes_nothing(state: TrainingState, tmp_path: Path) -> None:
    with RunLog(tmp_path / "run", state, 5, active=False) as run_log:
        run_log.log_step(state)
    assert not (tmp_path / "run").exists()


def test_lines_of_epochs_after_the_resumed_one_are_dropped(state: TrainingState, tmp_path: Path) -> None:
    (tmp_path / METRICS).write_text("".join(json.dumps({"epoch": number}) + "\n" for number in (1, 2, 3)))
    state.epoch = 2
    with RunLog(tmp_path, state, 5, active=True):
        pass
    assert logged_epochs(tmp_path) == [1, 2]


def test_tensorboard_gets_originals_reconstructions_and_samples(
    state: TrainingState, other_cars: ImageArray, tmp_path: Path
) -> None:
    with RunLog(tmp_path, state, 5, active=True) as run_log:
        run_log.log_images(state, torch.from_numpy(other_cars))
    events = event_accumulator.EventAccumulator(str(tmp_path / TENSORBOARD))
    events.Reload()
    names = {name.split("/")[0] for name in events.Tags()["images"]}
    assert names == {"originals", "reconstructions", "samples"}


def test_resuming_an_older_checkpoint_writes_each_epoch_once(
    recipe: Recipe, cars: ImageArray, other_cars: ImageArray, run_folder: Path
) -> None:
    older = (run_folder / LATEST).read_bytes()
    train(recipe.with_epochs(27), cars, other_cars, run_folder, ONE_PROCESS, resume=True)
    (run_folder / LATEST).write_bytes(older)
    train(recipe.with_epochs(26), cars, other_cars, run_folder, ONE_PROCESS, resume=True)
    assert logged_epochs(run_folder) == list(range(1, 27))
