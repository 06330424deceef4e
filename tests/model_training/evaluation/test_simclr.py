"""Contrastive training of the feature network: its loss, its views, what it learns, its recipe."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from app.images.arrays import ImageArray
from model_training.data.synthetic import draw_cars
from model_training.evaluation import simclr
from model_training.evaluation.feature_network import FeatureNetwork
from model_training.evaluation.simclr import (
    DEFAULT_RECIPE,
    FeatureExtractor,
    FeatureRecipe,
    decorrelation_loss,
    export_network,
    fit,
    nt_xent_loss,
    random_view,
    retrieval_accuracy,
)

RECIPE = dataclasses.replace(
    FeatureRecipe.load(DEFAULT_RECIPE),
    width=48,
    height=32,
    channels=(16, 32, 32),
    features=16,
    epochs=12,
    batch_size=32,
)


@pytest.fixture(scope="module")
def cars() -> ImageArray:
    return draw_cars(320, 48, 32, seed=1)


@pytest.fixture(scope="module")
def other_cars() -> ImageArray:
    return draw_cars(140, 48, 32, seed=2)


@pytest.fixture(scope="module")
def network(cars: ImageArray) -> FeatureExtractor:
    return fit(RECIPE, cars)


def test_the_loss_is_the_cross_entropy_of_finding_the_other_view() -> None:
    views = torch.tensor([[1.0, 0], [0, 1], [0.6, 0.8], [0, 1]])
    cosines = (views @ views.T).tolist()
    expected = 0.0
    for row, partner in enumerate((2, 3, 0, 1)):
        others = [math.exp(cosines[row][i] / 0.5) for i in range(4) if i != row]
        expected -= (cosines[row][partner] / 0.5 - math.log(sum(others))) / 4
    assert float(nt_xent_loss(views, 0.5)) == pytest.approx(expected, rel=1e-5)


def test_decorrelation_loss_counts_features_that_say_the_same() -> None:
    signs = torch.tensor([[1.0, 1, 1], [1, 1, -1], [-1, -1, 1], [-1, -1, -1]])
    assert float(decorrelation_loss(signs)) == pytest.approx(2 / 3)  # of three features two are the same
    assert float(decorrelation_loss(signs[:, 1:])) == 0


def test_a_view_is_a_window_in_its_place_that_may_be_mirrored() -> None:
    ramp = np.linspace(100, 147, 24).astype(np.uint8)
    images = torch.from_numpy(np.broadcast_to(ramp[:, None], (64, 16, 24, 3)).copy())
    views = random_view(images, torch.Generator().manual_seed(0))
    assert views.shape == (64, 3, 12, 18)
    assert views.min() >= 0
    assert views.max() <= 1
    slopes = views[:, 0].diff(dim=2)
    assert (slopes.amin((1, 2)) * slopes.amax((1, 2)) > 0).all(), "columns are out of order"
    assert 16 < int((slopes[:, 0, 0] > 0).sum()) < 48
    assert len(set(views[:, 0, 0, 0].tolist())) > 32, "always the same window and light"


def test_images_are_found_again_by_their_features(network: FeatureExtractor, other_cars: ImageArray) -> None:
    untrained = FeatureExtractor(RECIPE).eval()
    assert retrieval_accuracy(network, other_cars) > 2 * retrieval_accuracy(untrained, other_cars)
    assert not network.training


def test_features_have_mean_0_and_variance_1_over_the_training_images(
    network: FeatureExtractor, cars: ImageArray, tmp_path: Path
) -> None:
    export_network(network, RECIPE, tmp_path / "features.onnx")
    features = FeatureNetwork(tmp_path / "features.onnx")(cars)
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=0.2)
    np.testing.assert_allclose(features.std(axis=0), 1, atol=0.2)


def test_the_exported_network_computes_the_same(
    network: FeatureExtractor, other_cars: ImageArray, tmp_path: Path
) -> None:
    path = tmp_path / "new" / "features.onnx"
    export_network(network, RECIPE, path)
    exported = FeatureNetwork(path)
    assert (exported.width, exported.height) == (48, 32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(other_cars).permute(0, 3, 1, 2).float() / 255).numpy()
    np.testing.assert_allclose(exported(other_cars), expected, atol=1e-4)
    np.testing.assert_allclose(
        exported(other_cars[:, :, ::-1])[:3], exported(other_cars[:3, :, ::-1]), atol=1e-4
    )
    assert path.parent.as_posix().encode() not in path.read_bytes()


def test_the_seed_decides_the_weights(cars: ImageArray) -> None:
    recipe = dataclasses.replace(RECIPE, epochs=1)
    first, again = fit(recipe, cars).state_dict(), fit(recipe, cars).state_dict()
    other = fit(dataclasses.replace(recipe, seed=1), cars).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_fewer_images_than_a_batch_are_refused(cars: ImageArray) -> None:
    with pytest.raises(ValueError, match="31 pictures are fewer than the 32 of a batch"):
        fit(RECIPE, cars[:31])


@pytest.mark.parametrize("text", ["seed = 0", "seed = ", "depth = 3\nchannels = [1]"])
def test_recipes_that_cannot_be_used_are_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(ValueError, match=r"bad\.toml"):
        FeatureRecipe.load(tmp_path / "bad.toml")


def test_the_recipes_beside_the_module_are_of_two_networks_of_one_image_size() -> None:
    first = FeatureRecipe.load(DEFAULT_RECIPE)
    second = FeatureRecipe.load(DEFAULT_RECIPE.with_name("features-2.toml"))
    assert DEFAULT_RECIPE.parent == Path(simclr.__file__).parent
    assert (first.width, first.height) == (second.width, second.height) == (96, 64)
    assert first.seed != second.seed
    assert first.channels != second.channels
    assert first.first_stride != second.first_stride


@pytest.mark.parametrize(("stride", "size"), [(2, (16, 24)), (4, (8, 12))])
def test_the_first_stage_divides_the_sides_by_its_stride(stride: int, size: tuple[int, int]) -> None:
    extractor = FeatureExtractor(dataclasses.replace(RECIPE, first_stride=stride))
    assert extractor.stages[0](torch.zeros(1, 3, 32, 48)).shape[2:] == size
