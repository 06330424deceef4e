"""The loop: what training does, how it stops and that it goes on where it stopped."""

import dataclasses
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from app.images.arrays import ImageArray
from model_training import checkpoint
from model_training import train as training_module
from model_training.networks.loss import negative_elbo
from model_training.recipe import Recipe
from model_training.run_folder import BEST, LATEST, METRICS
from model_training.train import Diverged, Interrupted, learning_rate, train, training_step
from tests.model_training.conftest import (
    ONE_PROCESS,
    PCA_RECIPE,
    RECIPE,
    assert_same_weights,
    logged_epochs,
    saved_weights,
)


def test_training_lowers_the_loss_and_improves_the_reconstructions(
    finished_run: Path,
) -> None:
    records = [json.loads(line) for line in (finished_run / METRICS).read_text().splitlines()]
    assert [record["epoch"] for record in records] == list(range(1, 26))
    assert records[-1]["total"] < 0.95 * records[0]["total"]
    assert records[-1]["validation_loss"] < records[0]["validation_loss"]
    assert records[-1]["validation_psnr"] > records[0]["validation_psnr"] + 1


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    recipe: Recipe, cars: ImageArray, other_cars: ImageArray, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        train(recipe, cars, other_cars, tmp_path / name, ONE_PROCESS)
    assert_same_weights(saved_weights(tmp_path / "a"), saved_weights(tmp_path / "b"))
    other = dataclasses.replace(recipe, seed=recipe.seed + 1)
    train(other, cars, other_cars, tmp_path / "c", ONE_PROCESS)
    name = "encoder.mean.weight"
    assert not torch.equal(saved_weights(tmp_path / "a")[name], saved_weights(tmp_path / "c")[name])


@pytest.mark.parametrize(("step", "recipe"), [(1, RECIPE), (3, RECIPE), (5, RECIPE), (5, PCA_RECIPE)])
def test_a_run_stopped_by_a_signal_and_resumed_ends_as_an_unbroken_one(
    recipe: Recipe,
    cars: ImageArray,
    other_cars: ImageArray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
) -> None:
    recipe = recipe.with_epochs(4)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    expected = train(recipe, cars, other_cars, whole, ONE_PROCESS)
    with monkeypatch.context() as patch:
        interrupt_after(patch, step)
        with pytest.raises(Interrupted):
            train(recipe, cars, other_cars, broken, ONE_PROCESS)
    assert checkpoint.load(broken / LATEST)["epoch"] < 4
    metrics = train(recipe, cars, other_cars, broken, ONE_PROCESS, resume=True)
    assert metrics == expected
    assert_same_weights(saved_weights(whole), saved_weights(broken))
    assert_same_weights(saved_weights(whole, BEST), saved_weights(broken, BEST))
    assert (whole / METRICS).read_text() == (broken / METRICS).read_text()


def test_a_loss_that_is_not_a_number_stops_the_run_and_keeps_the_last_checkpoint(
    recipe: Recipe,
    cars: ImageArray,
    other_cars: ImageArray,
    run_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = (run_folder / LATEST).read_bytes()
    real = negative_elbo
    monkeypatch.setattr(
        training_module,
        "negative_elbo",
        lambda *inputs: real(*inputs)._replace(total=real(*inputs).total * float("nan")),
    )
    with pytest.raises(Diverged, match="the loss is nan in epoch 26"):
        train(recipe.with_epochs(28), cars, other_cars, run_folder, ONE_PROCESS, resume=True)
    assert (run_folder / LATEST).read_bytes() == before


def test_the_best_model_is_the_one_with_the_lowest_validation_loss(
    recipe: Recipe, cars: ImageArray, other_cars: ImageArray, tmp_path: Path
) -> None:
    fast = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, learning_rate=0.02))
    train(fast.with_epochs(6), cars, other_cars, tmp_path, ONE_PROCESS)
    losses = [json.loads(line)["validation_loss"] for line in (tmp_path / METRICS).read_text().splitlines()]
    best = checkpoint.load(tmp_path / BEST)
    assert best["epoch"] == 1 + int(np.argmin(losses))
    assert best["validation"]["loss"] == min(losses)


def test_the_cosine_schedule_rises_and_falls_to_nothing() -> None:
    rates = [learning_rate(PCA_RECIPE.training, step, 200) for step in range(400)]
    assert rates[0] < 0.02 * 2e-3
    assert max(rates) == pytest.approx(2e-3, rel=0.2)
    assert 50 < int(np.argmax(rates)) < 150
    assert rates[-1] < 1e-3 * 2e-3
    assert {learning_rate(RECIPE.training, step, 200) for step in range(400)} == {2e-3}


def test_fewer_pictures_than_a_batch_are_one_batch(
    recipe: Recipe, cars: ImageArray, other_cars: ImageArray, tmp_path: Path
) -> None:
    train(recipe, cars[:10], other_cars, tmp_path, ONE_PROCESS)
    assert logged_epochs(tmp_path) == [1, 2]
    with pytest.raises(ValueError, match="too few"):
        train(recipe, cars[:1], other_cars, tmp_path, ONE_PROCESS)


def interrupt_after(patch: pytest.MonkeyPatch, steps: int) -> None:
    """Let the process receive SIGINT when a number of steps has been made."""
    done = []

    def step(*arguments: object) -> torch.Tensor:
        done.append(True)
        if len(done) == steps:
            os.kill(os.getpid(), signal.SIGINT)
        return training_step(*arguments)  # type: ignore[arg-type]

    patch.setattr(training_module, "training_step", step)
