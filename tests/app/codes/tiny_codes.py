"""Tables of codes made by hand, for images of 24 x 16 and latents of 8; every machine makes the same."""

import numpy as np

from app.codes.range_coder import TOTAL
from app.codes.shape import shape_count
from app.codes.tables import CUTS, VALUES, CodeTables, Floats, Integers
from app.images.arrays import ImageArray

WIDTH, HEIGHT, DIMENSIONS, COMPONENTS, BLOCKS = 24, 16, 8, 64, 6
TAG = 0x21
CLASSES, REACH, LEVELS = 96, 20, 4
SETTINGS = [(step, -1) for step in range(0, 64, 8)] + [(64, step) for step in range(0, 80, 4)]


def tiny_tables() -> CodeTables:
    """Tables whose latent is its own coefficients and whose components are those of a cosine transform."""
    classes, levels = np.meshgrid(np.arange(CLASSES), np.arange(LEVELS), indexing="ij")
    first = np.clip(TOTAL - 400 - 100 * classes - 2000 * levels, 4000, TOTAL - 1)
    return CodeTables(
        size=np.array([WIDTH, HEIGHT]),
        shape_frequencies=_with_total(np.full(shape_count(WIDTH, HEIGHT), 1000), HEIGHT - 1),
        settings=np.array(SETTINGS),
        setting_bytes=np.linspace(5, 200, len(SETTINGS)).astype(np.float32),
        latent_mean=np.full(DIMENSIONS, 0.5, np.float32),
        latent_forward=np.eye(DIMENSIONS, dtype=np.float32),
        latent_inverse=np.eye(DIMENSIONS, dtype=np.float32),
        latent_step=np.array([2.0], np.float32),
        latent_classes=40 - 8 * np.arange(DIMENSIONS),
        latent_frequencies=np.stack([_falling(place) for place in range(CLASSES)]),
        latent_centroids=np.tile(np.arange(REACH + 1, dtype=np.float32), (CLASSES, 1)),
        basis=_cosines(),
        residual_step=np.array([256.0], np.float32),
        residual_classes=np.tile(30 - np.arange(COMPONENTS)[:, None], (1, BLOCKS)),
        own_weights=np.full((COMPONENTS, COMPONENTS), 3),
        near_weights=np.full((COMPONENTS, COMPONENTS), 1),
        same_weights=np.tile([20, 8], (COMPONENTS, 1)),
        levels=np.searchsorted([1, 12, 40], np.arange(100), side="right"),
        residual_frequencies=np.stack([first, first * 3 // 4, first // 2]),
        tail_frequency=np.array([TOTAL // 2]),
        residual_centroids=np.tile(np.arange(CUTS + 1, dtype=np.float32), (CLASSES, 1)),
    )


def tiny_decode(latent: Floats) -> ImageArray:
    """A decoder: four numbers are the light of quarters, the others hardly matter."""
    quarters = 128 + 16 * latent[:4].reshape(2, 2) + latent[4:].reshape(2, 2)
    light = quarters.repeat(HEIGHT // 2, axis=0).repeat(WIDTH // 2, axis=1)
    image: ImageArray = np.clip(np.rint(light), 0, 255).astype(np.uint8)[:, :, None].repeat(3, axis=2)
    return image


def tiny_car(seed: int) -> tuple[ImageArray, Floats]:
    """An image of the decoder's with something drawn over it, and its latent."""
    random = np.random.RandomState(seed)
    latent = random.standard_normal(DIMENSIONS).astype(np.float32) * 2
    image = tiny_decode(latent).astype(np.int64)
    image[4:10, 5:19] += random.randint(-60, 60)
    image += random.randint(-12, 13, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), latent


def _with_total(row: Integers, at: int) -> Integers:
    row[at] += TOTAL - row.sum()
    return row


def _falling(place: int) -> Integers:
    distance = np.abs(np.arange(-REACH, REACH + 1))
    return _with_total(1 + 20_000 // (1 + distance * distance * 40 // (place + 1)) // (1 + place // 8), REACH)


def _cosines() -> Floats:
    places = np.arange(8)
    rows = (
        np.cos((2 * places[None] + 1) * places[:, None] * np.pi / 16)
        * np.where(places, 0.5, 0.125**0.5)[:, None]
    )
    both = np.einsum("iy,jx->ijyx", rows, rows).reshape(64, 8, 8, 1).repeat(3, axis=3) / 3**0.5
    return np.ascontiguousarray(both.reshape(64, VALUES).T).astype(np.float32)
