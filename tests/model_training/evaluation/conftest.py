"""What evaluation is tried on: a backend whose figures are known, and a small feature network."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from app.images.arrays import ImageArray
from model_training.backends.base import Floats
from model_training.evaluation import simclr
from model_training.evaluation.feature_network import FeatureNetwork


class Mirror:
    """A backend with two latent units, one of them dead, whose reconstructions are off by ten grey levels."""

    width, height, latent_dim = 24, 16, 2

    def __init__(self, images: ImageArray) -> None:
        self.images = images

    def encode(self, images: ImageArray) -> tuple[Floats, Floats]:
        mean = np.zeros((len(images), 2), dtype=np.float32)
        mean[:, 0] = np.arange(len(images)) % 2 * 4 - 2
        return mean, np.zeros_like(mean)

    def decode(self, latents: Floats) -> ImageArray:
        assert len(latents) == len(self.images)
        return np.where(self.images > 127, self.images - 10, self.images + 10).astype(np.uint8)

    def refine(self, images: ImageArray, latents: Floats) -> Floats:
        assert len(images) == len(latents)
        return latents


class RefiningMirror(Mirror):
    """The same with a refiner, after which reconstructions are off by five grey levels."""

    def decode(self, latents: Floats) -> ImageArray:
        off = np.where(latents[:, 1] == 1, 5, 10)[:, None, None, None]
        return np.where(self.images > 127, self.images - off, self.images + off).astype(np.uint8)

    def refine(self, images: ImageArray, latents: Floats) -> Floats:
        assert len(images) == len(latents)
        refined = latents.copy()
        refined[:, 1] = 1
        return refined


@pytest.fixture(scope="session")
def feature_file(cars: ImageArray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A feature network for images of 24 x 16, as a file."""
    return _train(cars, tmp_path_factory.mktemp("features") / "features.onnx", seed=0, first_stride=4)


@pytest.fixture
def network(feature_file: Path) -> FeatureNetwork:
    return FeatureNetwork(feature_file)


@pytest.fixture(scope="session")
def second_network(cars: ImageArray, tmp_path_factory: pytest.TempPathFactory) -> FeatureNetwork:
    """Another one for images of the same size."""
    path = _train(cars, tmp_path_factory.mktemp("features") / "features.onnx", seed=1, first_stride=2)
    return FeatureNetwork(path)


def _train(cars: ImageArray, path: Path, *, seed: int, first_stride: int) -> Path:
    recipe = dataclasses.replace(
        simclr.FeatureRecipe.load(simclr.DEFAULT_RECIPE),
        seed=seed,
        width=24,
        height=16,
        channels=(16, 32),
        first_stride=first_stride,
        features=8,
        epochs=4,
        batch_size=32,
    )
    simclr.export_network(simclr.fit(recipe, cars), recipe, path)
    return path
