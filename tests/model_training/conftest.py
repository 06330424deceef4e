"""A model small enough to be trained in each test that needs one, and how to look into its run."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch

from app.images.arrays import ImageArray
from app.model.manifest import Manifest
from model_training import checkpoint
from model_training.data.synthetic import draw_cars
from model_training.distributed import World
from model_training.export.model_folder import export_run
from model_training.prior_recipe import PriorConfig
from model_training.recipe import ConvVaeConfig, PcaVaeConfig, Recipe, SubpixelVaeConfig, TrainingConfig
from model_training.run_folder import LATEST, METRICS
from model_training.train import train

torch.set_num_threads(1)  # networks of this size only lose by being shared out

State = dict[str, torch.Tensor]

ONE_PROCESS = World(rank=0, size=1, device=torch.device("cpu"))


SMALL_PRIOR = PriorConfig.from_dict(
    {
        "coarse": {
            "teacher": {
                "channels": 8,
                "blocks": 2,
                "dense_width": 64,
                "dense_blocks": 2,
                "global_width": 32,
            },
            "weak": {"channels": 8, "blocks": 1, "dense_width": 32, "global_width": 32},
            "paths": {"count": 4096},
            "student": {"width": 64, "depth": 3},
            "fake": {"width": 64},
        },
        "fine": {
            "teacher": {"channels": 16, "blocks": 1},
            "weak": {"channels": 8},
            "paths": {"count": 4096},
            "student": {"channels": 16, "blocks": 1},
            "fake": {"channels": 16},
        },
    }
)
"""Networks that are soon fitted."""

RECIPE = dataclasses.replace(
    Recipe.load("tiny"),
    model=ConvVaeConfig(width=24, height=16, channels=(8, 16), latent_dim=6),
    prior=SMALL_PRIOR,
)


PCA_RECIPE = Recipe(
    "principal",
    0,
    PcaVaeConfig(width=24, height=16, latent_dim=6, hidden=16, features=4, channels=(8, 12)),
    TrainingConfig(2, 64, 2e-3, schedule="cosine", linear_rate=0.1, average=0.9, augment=True),
)


SUBPIXEL_RECIPE = dataclasses.replace(
    PCA_RECIPE,
    name="subpixel",
    model=SubpixelVaeConfig(
        width=24,
        height=16,
        latent_dim=6,
        hidden=16,
        encoder_channels=(4, 8, 4),
        rank=6,
        features=4,
        channels=12,
        depth=2,
    ),
)


@pytest.fixture
def recipe() -> Recipe:
    """Two epochs of a network of a few thousand parameters."""
    return RECIPE.with_epochs(2)


@pytest.fixture(scope="session")
def cars() -> ImageArray:
    """Images to train on: (160, 16, 24, 3)."""
    return draw_cars(160, 24, 16, seed=1)


@pytest.fixture(scope="session")
def other_cars() -> ImageArray:
    """Images to validate on: (40, 16, 24, 3)."""
    return draw_cars(40, 24, 16, seed=2)


@pytest.fixture(scope="session")
def finished_run(cars: ImageArray, other_cars: ImageArray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 25 epochs, not to be changed."""
    out = tmp_path_factory.mktemp("finished") / "run"
    train(RECIPE.with_epochs(25), cars, other_cars, out, ONE_PROCESS)
    return out


@pytest.fixture(scope="session")
def finished_subpixel_run(
    cars: ImageArray, other_cars: ImageArray, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run of 5 epochs of the architecture that can be fine-tuned and refined, not to be changed."""
    out = tmp_path_factory.mktemp("subpixel") / "run"
    train(SUBPIXEL_RECIPE.with_epochs(5), cars, other_cars, out, ONE_PROCESS)
    return out


@pytest.fixture
def subpixel_run(finished_subpixel_run: Path, tmp_path: Path) -> Path:
    """A copy of that run."""
    return Path(shutil.copytree(finished_subpixel_run, tmp_path / "subpixel"))


@pytest.fixture
def run_folder(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def export_cars(run: Path, target: Path, images: ImageArray) -> Manifest:
    """The run as model car-vae/3."""
    return export_run(
        run,
        target,
        name="car-vae",
        version=3,
        images=images,
        data={"trained_on": "cars"},
        metrics={"psnr": 9.0},
    )


@pytest.fixture(scope="session")
def exported_model(
    finished_run: Path, other_cars: ImageArray, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The finished run as a model folder, not to be changed."""
    folder = tmp_path_factory.mktemp("exported") / "3"
    export_cars(finished_run, folder, other_cars)
    return folder


def saved_weights(run: Path, file: str = LATEST) -> State:
    """The model of a checkpoint."""
    weights: State = checkpoint.load(run / file)["model"]
    return weights


def logged_epochs(run: Path) -> list[int]:
    """The epochs in metrics.jsonl."""
    return [json.loads(line)["epoch"] for line in (run / METRICS).read_text().splitlines()]


def assert_same_weights(one: State, other: State) -> None:
    """Of the same names and bit-identical."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=0, msg=f"{name} differs")
