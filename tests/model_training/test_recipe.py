import dataclasses
import json
import tomllib
from pathlib import Path

import pytest

from model_training.networks.vae import VAE, parameter_count
from model_training.prior_recipe import PriorConfig
from model_training.recipe import RECIPES, ConvVaeConfig, Recipe


def test_the_seed_recipe_is_the_projects_description() -> None:
    recipe = Recipe.load("seed")
    assert (recipe.training.epochs, recipe.training.batch_size) == (700, 128)
    assert recipe.training.learning_rate == 1e-3
    assert (recipe.model.width, recipe.model.height, recipe.model.latent_dim) == (96, 64, 256)
    assert 8_600_000 <= parameter_count(VAE(recipe.model)) <= 8_800_000


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_survives_json(path: Path) -> None:
    recipe = Recipe.load(str(path))
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_an_unknown_recipe_names_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"no recipe 'sead'; there are .*seed.*tiny"):
        Recipe.load("sead")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("momentum = 0.9", "", r"odd\.toml.*momentum"),
        (
            "",
            "[prior.fine]\nchannels = 3",
            r"odd\.toml: prior\.fine has no channels; there are steps_ratio, ",
        ),
        (
            "",
            "[prior.fine.fake]\nblocks = 1.5",
            r"odd\.toml: prior\.fine\.fake\.blocks must be a whole number",
        ),
    ],
)
def test_an_unknown_setting_is_refused(before: str, after: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(f"{before}\n{(RECIPES / 'tiny.toml').read_text()}\n{after}\n")
    with pytest.raises(ValueError, match=message):
        Recipe.load(str(path))


def test_a_missing_section_is_named(tmp_path: Path) -> None:
    path = tmp_path / "half.toml"
    path.write_text("seed = 0\n")
    with pytest.raises(ValueError, match=r"half\.toml: there is no 'model'"):
        Recipe.load(str(path))


def test_a_size_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 8, not 96 x 60"):
        ConvVaeConfig(width=96, height=60, channels=(8, 8, 8), latent_dim=4)


def test_the_best_recipe_writes_out_every_setting_of_the_prior() -> None:
    written = tomllib.loads((RECIPES / "best.toml").read_text())["prior"]
    assert written == json.loads(json.dumps(PriorConfig().to_dict()))


def test_a_recipe_that_says_nothing_of_the_prior_takes_the_defaults() -> None:
    assert Recipe.load("seed").prior == PriorConfig()


def test_a_run_that_recorded_no_prior_takes_the_defaults() -> None:
    values = Recipe.load("tiny").to_dict()
    del values["prior"]
    assert Recipe.from_dict(values).prior == PriorConfig()


def test_the_steps_of_fine_tuning_alone_are_another_number() -> None:
    best = Recipe.load("best")
    assert best.finetuning is not None
    fewer = best.with_finetuning_steps(7)
    assert fewer.finetuning == dataclasses.replace(best.finetuning, steps=7)
    assert dataclasses.replace(fewer, finetuning=best.finetuning) == best
    assert best.with_finetuning_steps(None) == best
    assert Recipe.load("seed").with_finetuning_steps(7) == Recipe.load("seed")
    with pytest.raises(ValueError, match="steps, sizes and learning_rate must be positive"):
        best.with_finetuning_steps(0)
