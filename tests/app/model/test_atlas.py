"""Atlas of a model folder: what is written is read, and what cannot be used is refused."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from app.errors import ModelFolderError
from app.model.atlas import Likeness, read_atlas
from app.model.manifest import describe_file, read_model_folder
from tests.tiny_model import LATENT_DIM, add_atlas, write_tiny_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "1")


def test_what_is_written_is_read(folder: Path) -> None:
    assert read_atlas(read_model_folder(folder)) is None
    written = add_atlas(folder)
    found = read_atlas(read_model_folder(folder))
    assert found is not None
    assert found.likeness is not None
    assert [(one.name, one.low, one.high, one.std) for one in found.directions] == [
        ("Paint", "dark", "light", 0.5),
        ("Shape", "low", "tall", 1.5),
    ]
    for one, other in zip(found.directions, written.directions, strict=True):
        np.testing.assert_array_equal(one.vector, other.vector)
    assert found.map_seeds.tolist() == [[5, 3, 8], [1, 9, 2]]
    assert found.sheet == written.sheet
    assert found.tables() == written.tables()


def test_likeness_is_a_half_at_the_limit_and_that_of_each_latent_alone() -> None:
    random = np.random.default_rng(0)
    layers = [
        (
            random.standard_normal(shape).astype(np.float32),
            random.standard_normal(shape[1]).astype(np.float32),
        )
        for shape in ((LATENT_DIM, 5), (5, 3), (3, 1))
    ]
    latents = random.standard_normal((7, LATENT_DIM)).astype(np.float32)
    likeness = Likeness(layers)
    state = latents.astype(np.float64)
    for number, (weight, bias) in enumerate(layers):
        state = state @ weight + bias
        if number < 2:
            state = state / (1 + np.exp(-state))
    np.testing.assert_allclose(likeness(latents), 1 / (1 + np.exp(-state[:, 0])), rtol=1e-6)
    np.testing.assert_array_equal(np.concatenate([likeness(one[None]) for one in latents]), likeness(latents))


def test_extreme_latents_have_a_likeness() -> None:
    likeness = Likeness([(np.eye(LATENT_DIM, 1, dtype=np.float32), np.zeros(1, np.float32))])
    latents = np.zeros((3, LATENT_DIM), np.float32)
    latents[:, 0] = -1e6, 0, 1e6
    low, middle, high = likeness(latents)
    assert 0 <= low < 1e-12
    assert middle == 0.5
    assert 1 - 1e-12 < high <= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vectors": np.zeros((2, 3), np.float32)}, "directions do not match"),
        ({"stds": np.array([1.0, np.nan])}, "not all directions are finite"),
        ({"map_seeds": np.array([[-1, 2]])}, "not a grid of seeds"),
        ({"map_seeds": np.array([1, 2])}, "not a grid of seeds"),
        ({"likeness_0": np.zeros((3, 1), np.float32)}, "of another latent size"),
        ({"likeness_0": np.full((LATENT_DIM, 1), np.inf)}, "not all numbers"),
        ({"likeness_0": np.zeros(3, np.float32)}, "not a matrix and a bias"),
        ({"likeness_0": np.zeros((8, 2), np.float32), "likeness_0_bias": np.zeros(2)}, "no single output"),
        ({"likeness_1": np.zeros((2, 1)), "likeness_1_bias": np.zeros(1)}, "do not match"),
    ],
)
def test_what_cannot_be_used_is_refused(folder: Path, changes: dict[str, np.ndarray], message: str) -> None:
    add_atlas(folder)
    with np.load(folder / "atlas.npz") as arrays:
        np.savez(folder / "atlas.npz", **(dict(arrays) | changes))
    _describe_again(folder)
    with pytest.raises(ModelFolderError, match=f"the atlas cannot be used .*{message}.*; fit it again"):
        read_atlas(read_model_folder(folder))


def test_a_damaged_file_is_refused(folder: Path) -> None:
    add_atlas(folder)
    (folder / "atlas.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ModelFolderError, match=r"altered|bytes"):
        read_model_folder(folder)
    _describe_again(folder)
    with pytest.raises(ModelFolderError, match="fit it again"):
        read_atlas(read_model_folder(folder))


def _describe_again(folder: Path) -> None:
    manifest = json.loads((folder / "model.json").read_text())
    manifest["atlas"]["tables"] = dataclasses.asdict(describe_file(folder / "atlas.npz"))
    (folder / "model.json").write_text(json.dumps(manifest))
