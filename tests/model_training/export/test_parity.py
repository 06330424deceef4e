"""Parity: what counts as a difference between two forms of a model, and which are refused."""

import numpy as np
import pytest

from app.images.arrays import ImageArray
from app.model.manifest import Parity
from model_training.backends.base import Floats
from model_training.export.parity import (
    BATCH_SIZES,
    GREY_LEVEL_TOLERANCE,
    LATENT_TOLERANCE,
    ParityError,
    check_parity,
    draw_latents,
)

IMAGES = np.random.default_rng(5).integers(0, 256, (3, 4, 6, 3), dtype=np.uint8)


class Means:
    """Graphs whose latents are the channels' means and whose images are of one colour.

    Each figure can be off by a constant.
    """

    def __init__(self, mean: float = 0, log_variance: float = 0, grey_levels: int = 0) -> None:
        self.mean, self.log_variance, self.grey_levels = mean, log_variance, grey_levels
        self.seen: list[ImageArray] = []

    def encode(self, images: ImageArray) -> tuple[Floats, Floats]:
        self.seen.append(images)
        mean = images.mean(axis=(1, 2), dtype=np.float32)
        return mean + np.float32(self.mean), np.full_like(mean, self.log_variance)

    def decode(self, latents: Floats) -> ImageArray:
        levels = latents.clip(0, 250).astype(np.uint8) + np.uint8(self.grey_levels)
        return np.broadcast_to(levels[:, None, None], (len(latents), 4, 6, 3))


def test_a_model_has_parity_with_itself() -> None:
    assert check_parity(Means(), Means(), IMAGES) == Parity(0.0, 0.0, 0)


def test_the_largest_differences_are_reported_where_they_may_be() -> None:
    parity = check_parity(Means(), Means(5e-4, -8e-4, 1), IMAGES)
    assert parity.encoder_mean == pytest.approx(5e-4, abs=2e-5)
    assert parity.encoder_log_variance == pytest.approx(8e-4)
    assert parity.decoder_grey_levels == 1


@pytest.mark.parametrize(
    "other",
    [
        Means(mean=2 * LATENT_TOLERANCE),
        Means(log_variance=-2 * LATENT_TOLERANCE),
        Means(grey_levels=GREY_LEVEL_TOLERANCE + 1),
    ],
    ids=["mean", "log_variance", "grey levels"],
)
def test_any_difference_beyond_its_tolerance_is_refused(other: Means) -> None:
    with pytest.raises(ParityError, match="the export differs from PyTorch by more than allowed"):
        check_parity(Means(), other, IMAGES)


def test_what_is_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="finite number"):
        check_parity(Means(), Means(mean=float("nan")), IMAGES)


def test_photographs_and_noise_are_compared_in_batches_of_several_sizes() -> None:
    found = Means()
    check_parity(Means(), found, IMAGES)
    assert [len(images) for images in found.seen] == [size for size in BATCH_SIZES for _ in range(2)]
    for noise, photographs in zip(found.seen[::2], found.seen[1::2], strict=True):
        np.testing.assert_array_equal(photographs, IMAGES[np.arange(len(photographs)) % len(IMAGES)])
        assert not np.array_equal(noise, photographs)


def test_drawn_latents_have_the_moments_of_their_posteriors() -> None:
    mean = np.tile(np.array([[-2.0, 3.0]], np.float32), (20_000, 1))
    log_variance = np.tile(np.log(np.array([[0.25, 4.0]], np.float32)), (20_000, 1))
    latents = draw_latents(mean, log_variance, np.random.default_rng(0))
    assert latents.dtype == np.float32
    np.testing.assert_allclose(latents.mean(axis=0), [-2, 3], atol=0.05)
    np.testing.assert_allclose(latents.std(axis=0), [0.5, 2], rtol=0.03)
