"""Layout of the map: every car once, and neighbours alike."""

from pathlib import Path

import numpy as np

from app.model.atlas import Direction, Likeness
from app.model.manifest import read_model_folder
from app.model.prior import read_prior
from model_training.atlas.attributes import ATTRIBUTES
from model_training.atlas.layout import arrange, fit_map
from tests.tiny_model import LATENT_DIM, write_tiny_model


def apart(points: np.ndarray, grid: np.ndarray) -> float:
    """The mean distance of neighbours."""
    placed = points[grid]
    steps = [np.linalg.norm(np.diff(placed, axis=axis), axis=2).mean() for axis in (0, 1)]
    return float(np.mean(steps))


def test_neighbours_are_alike_and_nobody_is_lost() -> None:
    random = np.random.default_rng(0)
    angle = random.uniform(0, 2 * np.pi, 120)
    points = np.stack([np.cos(angle), np.sin(angle), random.standard_normal(120)], axis=1)
    grid = arrange(points, (10, 12), 800)
    assert sorted(grid.ravel().tolist()) == list(range(120))
    chance = apart(points, random.permutation(120).reshape(10, 12))
    assert apart(points, grid) < 0.45 * chance
    np.testing.assert_array_equal(grid, arrange(points, (10, 12), 800))


def test_the_map_has_the_first_seeds_that_look_like_cars(tmp_path: Path) -> None:
    model = read_model_folder(write_tiny_model(tmp_path / "1"))
    assert model.manifest.files.prior is not None
    prior = read_prior(model.content(model.manifest.files.prior), LATENT_DIM)
    axes = np.eye(LATENT_DIM, dtype=np.float32)
    named = [attribute for attribute in ATTRIBUTES.values() if attribute.name]
    directions = tuple(
        Direction(axes[i % LATENT_DIM], 1.0, one.name, one.low, one.high) for i, one in enumerate(named)
    )
    weights = np.eye(LATENT_DIM, 1, dtype=np.float32)
    latents = np.concatenate([prior.draw(1, seed) for seed in range(24)])
    middle = np.median(latents[:, 0])
    likeness = Likeness([(weights, np.full(1, -middle, np.float32))])
    seeds = fit_map(prior, directions, likeness, (3, 4), 40)
    assert seeds.shape == (3, 4)
    cars = [seed for seed in range(24) if latents[seed, 0] >= middle]
    assert sorted(seeds.ravel().tolist()) == cars
