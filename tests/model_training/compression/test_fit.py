import numpy as np
import pytest

from app.images.arrays import ImageArray
from model_training.backends.base import Floats
from model_training.compression.fit import fit_compressor, training_statistics


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
