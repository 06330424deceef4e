"""Fit of a compressor: its statistics are those of the training images and of their mirror images."""

from pathlib import Path

import numpy as np
import pytest

from app.codes.compressor import Compressor
from app.images.arrays import ImageArray
from model_training.backends.base import Floats
from model_training.compression.fit import fit_compressor, training_statistics
from tests.model_training.compression.conftest import Blocks


class LeftEdge:
    """A backend whose only latent is what the upper left corner shows."""

    width, height, latent_dim = 4, 2, 1

    def encode(self, images: ImageArray) -> tuple[Floats, Floats]:
        mean = images[:, 0, :1, 0].astype(np.float32)
        return mean, np.zeros_like(mean)

    def decode(self, latents: Floats) -> ImageArray:
        raise AssertionError(latents)


@pytest.fixture
def images() -> ImageArray:
    images = np.zeros((9, 2, 4, 3), dtype=np.uint8)
    images[:, :, 0] = 200
    return images


def test_mirror_images_count_too(images: ImageArray) -> None:
    statistics = training_statistics(LeftEdge(), images)
    assert statistics.mean == pytest.approx([100])
    assert statistics.deviations == pytest.approx([100])


def test_the_compressor_has_the_step_that_was_asked_for(images: ImageArray) -> None:
    compressor = fit_compressor(LeftEdge(), images, 10.0)
    assert compressor.step == 10.0
    latent = np.array([83], dtype=np.float32)
    assert abs(compressor.decompress(compressor.compress(latent))[0] - 83) <= 5


def test_a_fitted_compressor_writes_latents_to_within_half_a_step(
    cars: ImageArray, other_cars: ImageArray, tmp_path: Path
) -> None:
    fit_compressor(Blocks(), cars, 0.5).save(tmp_path / "compressor.npz")
    compressor = Compressor.load(tmp_path / "compressor.npz")
    latents, _ = Blocks().encode(other_cars)
    restored = np.stack([compressor.decompress(compressor.compress(latent)) for latent in latents])
    offsets = compressor.statistics.coefficients(restored) - compressor.statistics.coefficients(latents)
    assert np.median(np.abs(offsets)) < 0.25 + 1e-3


def test_too_few_images_are_refused(cars: ImageArray) -> None:
    with pytest.raises(ValueError, match="20 latents are too few for statistics in 72 dimensions"):
        fit_compressor(Blocks(), cars[:10], 8.0)


def test_a_step_too_fine_for_the_frequencies_is_refused(cars: ImageArray) -> None:
    with pytest.raises(ValueError, match="is too fine"):
        fit_compressor(Blocks(), cars, 1e-6)
