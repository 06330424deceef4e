"""The state: what it starts from, what is averaged, and what a checkpoint gives back."""

import dataclasses
from pathlib import Path

import pytest
import torch

from app.images.arrays import ImageArray
from model_training import checkpoint
from model_training.networks.vae import VAE
from model_training.recipe import Recipe
from model_training.run_folder import BEST, LATEST
from model_training.train import train, validate
from model_training.training_state import TrainingState
from tests.model_training.conftest import ONE_PROCESS, PCA_RECIPE, assert_same_weights, saved_weights

CPU = torch.device("cpu")


def test_a_saved_state_is_resumed_whole(cars: ImageArray, tmp_path: Path) -> None:
    saved = TrainingState.start(PCA_RECIPE, CPU, cars)
    assert saved.average is not None
    loss = saved.model.encoder(torch.rand(4, 3, 16, 24)).mean.sum()
    loss.backward()
    saved.optimizer.step()
    saved.totals += torch.arange(4)
    saved.epoch, saved.step, saved.best_loss = 1, 2, 3.0
    saved.save(tmp_path)
    resumed = TrainingState.resume(tmp_path / LATEST, PCA_RECIPE, CPU)
    assert resumed.average is not None
    assert_same_weights(resumed.model.state_dict(), saved.model.state_dict())
    assert_same_weights(resumed.average.state_dict(), saved.average.state_dict())
    assert resumed.optimizer.state_dict()["state"].keys() == saved.optimizer.state_dict()["state"].keys()
    assert resumed.totals.tolist() == [0, 1, 2, 3]
    assert (resumed.epoch, resumed.step, resumed.best_loss) == (1, 2, 3.0)


def test_the_best_model_is_written_once(recipe: Recipe, tmp_path: Path) -> None:
    state = TrainingState.start(recipe, CPU)
    state.best = {"epoch": 1}
    state.save(tmp_path)
    (tmp_path / BEST).unlink()
    state.save(tmp_path)
    assert not (tmp_path / BEST).exists()


def test_resuming_another_recipe_is_refused(
    recipe: Recipe, cars: ImageArray, other_cars: ImageArray, run_folder: Path
) -> None:
    other = dataclasses.replace(recipe, seed=9)
    with pytest.raises(ValueError, match="another recipe"):
        train(other, cars, other_cars, run_folder, ONE_PROCESS, resume=True)


def test_resuming_with_other_settings_of_the_prior_goes_on(recipe: Recipe, run_folder: Path) -> None:
    other = dataclasses.replace(recipe, prior=dataclasses.replace(recipe.prior, steps=7))
    assert TrainingState.resume(run_folder / LATEST, other, CPU).recipe == other


def test_an_average_of_the_weights_is_what_is_validated_and_kept(
    cars: ImageArray, other_cars: ImageArray, tmp_path: Path
) -> None:
    train(PCA_RECIPE, cars, other_cars, tmp_path, ONE_PROCESS)
    state, best = checkpoint.load(tmp_path / LATEST), checkpoint.load(tmp_path / BEST)
    assert best["epoch"] == 2
    assert_same_weights(best["model"], state["average"])
    name = "decoder.hidden.0.weight"
    assert not torch.equal(state["average"][name], state["model"][name])
    model = VAE(PCA_RECIPE.model)
    model.load_state_dict(state["average"])
    assert validate(model, torch.from_numpy(other_cars)) == best["validation"]


def test_the_linear_codec_learns_at_its_own_rate(
    cars: ImageArray, other_cars: ImageArray, tmp_path: Path
) -> None:
    settings = dataclasses.replace(PCA_RECIPE.training, linear_rate=0.0)
    train(dataclasses.replace(PCA_RECIPE, training=settings), cars, other_cars, tmp_path, ONE_PROCESS)
    trained = saved_weights(tmp_path)
    start = TrainingState.start(PCA_RECIPE, CPU, cars).model.state_dict()
    for name in ("encoder.linear.weight", "decoder.linear.bias"):
        torch.testing.assert_close(trained[name], start[name], rtol=0, atol=0)
    assert not torch.equal(trained["encoder.mean.weight"], start["encoder.mean.weight"])
