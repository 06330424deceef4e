"""Backend of a training run: its best checkpoint, as the graphs that are served."""

from pathlib import Path

import numpy as np
import pytest
import torch

from app.images.arrays import ImageArray
from model_training.backends.base import BATCH_SIZE
from model_training.backends.torch_backend import DecoderGraph, EncoderGraph, TorchBackend
from model_training.run_folder import BEST, LATEST
from tests.model_training.conftest import RECIPE, saved_weights


def test_sizes_recipe_and_weights_are_those_of_the_best_checkpoint(finished_run: Path) -> None:
    backend = TorchBackend(finished_run)
    assert (backend.width, backend.height, backend.latent_dim) == (24, 16, 6)
    assert backend.recipe.model == RECIPE.model
    weights = backend.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in saved_weights(finished_run, BEST).items())


def test_it_evaluates_and_does_not_train(finished_run: Path, cars: ImageArray) -> None:
    backend = TorchBackend(finished_run)
    assert not backend.model.training
    mean, _ = backend.encode(cars[:4])
    backend.encode(cars)
    np.testing.assert_array_equal(backend.encode(cars[:4])[0], mean)


def test_more_rows_than_a_batch_are_computed_as_each_alone(finished_run: Path, cars: ImageArray) -> None:
    backend = TorchBackend(finished_run)
    assert len(cars) > BATCH_SIZE
    mean, log_variance = backend.encode(cars)
    decoded = backend.decode(mean)
    assert mean.shape == log_variance.shape == (len(cars), 6)
    assert decoded.shape == cars.shape
    for index in (0, BATCH_SIZE - 1, BATCH_SIZE, len(cars) - 1):
        np.testing.assert_allclose(backend.encode(cars[[index]])[0][0], mean[index], atol=1e-4)
        alone = backend.decode(mean[[index]])[0]
        assert np.abs(alone.astype(int) - decoded[index]).max() <= 1


def test_decoded_images_are_contiguous_bytes(finished_run: Path) -> None:
    images = TorchBackend(finished_run).decode(np.zeros((3, 6), dtype=np.float32))
    assert images.dtype == np.uint8
    assert images.flags["C_CONTIGUOUS"]


def test_graphs_scale_bytes_on_their_way_in_and_round_to_bytes_on_their_way_out(
    finished_run: Path, cars: ImageArray
) -> None:
    model = TorchBackend(finished_run).model
    images = torch.from_numpy(cars[:3])
    with torch.inference_mode():
        posterior = model.encoder(images.permute(0, 3, 1, 2) / 255)
        mean, log_variance = EncoderGraph(model)(images)
        torch.testing.assert_close(mean, posterior.mean)
        torch.testing.assert_close(log_variance, posterior.log_variance)
        levels = model.decoder(mean).sigmoid() * 255
        decoded = DecoderGraph(model)(mean)
    assert decoded.dtype == torch.uint8
    assert (decoded.permute(0, 3, 1, 2) - levels).abs().max() <= 0.5 + 1e-3


def test_a_run_without_a_best_model_is_refused(run_folder: Path) -> None:
    (run_folder / BEST).unlink()
    assert (run_folder / LATEST).is_file()
    with pytest.raises(ValueError, match=r"no checkpoint .*best\.pt"):
        TorchBackend(run_folder)
