"""Feature network, exported: which images it takes, and which files it is."""

from pathlib import Path

import numpy as np
import pytest

from app.images.arrays import ImageArray
from model_training.backends.base import BATCH_SIZE
from model_training.evaluation.feature_network import FeatureNetwork


def test_it_knows_the_size_of_the_images_it_takes(network: FeatureNetwork) -> None:
    assert (network.width, network.height) == (24, 16)


def test_more_images_than_a_batch_give_the_features_of_each(
    network: FeatureNetwork, cars: ImageArray
) -> None:
    assert len(cars) > BATCH_SIZE
    features = network(cars)
    assert features.shape == (len(cars), 8)
    assert features.dtype == np.float32
    for index in (0, BATCH_SIZE - 1, BATCH_SIZE, len(cars) - 1):
        np.testing.assert_allclose(network(cars[[index]])[0], features[index], atol=1e-4)


def test_mirrored_views_of_an_array_are_taken_as_they_are(network: FeatureNetwork, cars: ImageArray) -> None:
    mirrored = cars[:5, :, ::-1]
    np.testing.assert_array_equal(network(mirrored), network(np.ascontiguousarray(mirrored)))


@pytest.mark.parametrize("content", [None, b"no graph"])
def test_files_that_are_no_feature_network_are_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "features.onnx").write_bytes(content)
    with pytest.raises(ValueError, match=r"features\.onnx is not a feature network"):
        FeatureNetwork(tmp_path / "features.onnx")
