import numpy as np
import pytest

from app.codes.compressor import Doubles, Floats, Statistics
from app.codes.latent_search import search
from app.images.arrays import ImageArray

WIDTH, HEIGHT, LATENT_DIM = 8, 6, 5
RANDOM = np.random.default_rng(0)
MIXING = RANDOM.normal(0, 9, (LATENT_DIM, HEIGHT * WIDTH * 3))
MIXING[-1] = 0  # nothing is seen of the last number


class Curved:
    """A decoder that bends, and an encoder that knows nothing."""

    width, height, latent_dim = WIDTH, HEIGHT, LATENT_DIM

    def encode(self, images: ImageArray) -> tuple[Floats, Floats]:
        mean = np.zeros((len(images), LATENT_DIM), dtype=np.float32)
        return mean, mean

    def decode(self, latents: Floats) -> ImageArray:
        levels = 127.5 + 127.5 * np.tanh(latents @ MIXING / 100)
        return np.rint(levels).astype(np.uint8).reshape(-1, HEIGHT, WIDTH, 3)


def statistics(deviations: Doubles) -> Statistics:
    return Statistics(np.zeros(LATENT_DIM), np.full(LATENT_DIM, 0.1), np.eye(LATENT_DIM), deviations)


VARIED = statistics(np.full(LATENT_DIM, 15.0))


def error(images: ImageArray, latents: Floats) -> Doubles:
    difference = images - Curved().decode(latents).astype(np.float64)
    return np.asarray((difference**2).mean(axis=(1, 2, 3)))


def test_the_latents_that_made_the_images_are_found() -> None:
    latents = RANDOM.normal(0, 1, (20, LATENT_DIM)).astype(np.float32)
    vae, images = Curved(), Curved().decode(latents)
    start, _ = vae.encode(images)
    found = search(vae, VARIED, images, start)
    assert found.dtype == np.float32
    assert found.shape == start.shape
    assert error(images, found).mean() < 0.02 * error(images, start).mean()
    assert np.abs(found - latents)[:, :-1].max() < 0.5


def test_what_no_image_shows_goes_to_the_mean() -> None:
    start = np.zeros((1, LATENT_DIM), dtype=np.float32)
    start[0, -1] = 3
    found = search(Curved(), VARIED, Curved().decode(start), start)
    assert found[0, -1] == pytest.approx(0, abs=1e-3)


def test_what_never_varies_stays() -> None:
    latents = RANDOM.normal(0, 1, (5, LATENT_DIM)).astype(np.float32)
    start = np.zeros_like(latents)
    deviations = np.array([15.0, 15, 15, 0, 0])
    found = search(Curved(), statistics(deviations), Curved().decode(latents), start)
    assert np.abs(found[:, 3:]).max() < 1e-3
    assert (np.abs(found[:, :3]).max(axis=1) > 0.1).all()


@pytest.mark.parametrize("start", [0, 1.5, -40])
def test_images_that_no_latent_gives_end_no_less_probable(start: float) -> None:
    vae, begun = Curved(), np.full((12, LATENT_DIM), start, dtype=np.float32)
    images = np.concatenate(
        [
            RANDOM.integers(0, 256, (10, HEIGHT, WIDTH, 3)),
            np.zeros((1, HEIGHT, WIDTH, 3)),
            np.full((1, HEIGHT, WIDTH, 3), 255),
        ]
    ).astype(np.uint8)
    found = search(vae, VARIED, images, begun)
    variance = error(images, begun) + 1 / 12

    def improbable(latents: Floats) -> Doubles:
        squares = (VARIED.coefficients(latents) / VARIED.deviations) ** 2
        return np.asarray(error(images, latents) * images[0].size / variance + squares.sum(axis=1))

    assert np.isfinite(found).all()
    assert (improbable(found) <= improbable(begun) * (1 + 1e-6)).all()


class Rippled(Curved):
    """A decoder of which differences say nothing true."""

    def decode(self, latents: Floats) -> ImageArray:
        return super().decode(np.sin(40 * latents) + latents)


def test_where_no_step_helps_the_encoder_is_right() -> None:
    vae, start = Rippled(), np.zeros((10, LATENT_DIM), dtype=np.float32)
    noise = RANDOM.integers(-1, 2, (10, HEIGHT, WIDTH, 3))
    images = (vae.decode(start) + noise).astype(np.uint8)
    np.testing.assert_array_equal(search(vae, VARIED, images, start), start)
