from pathlib import Path

import numpy as np
import pytest
import torch

from app.images.arrays import ImageArray
from model_training.backends.torch_backend import TorchBackend
from model_training.networks.vae import VAE
from model_training.refinement.fit import (
    fit_refiner,
    folded_decoder,
    mean_curvature,
    read_refiner,
    save_refiner,
)
from model_training.refinement.refiner import PRIOR_STRENGTH
from tests.model_training.conftest import PCA_RECIPE


@pytest.fixture(scope="module")
def backend(finished_subpixel_run: Path) -> TorchBackend:
    return TorchBackend(finished_subpixel_run)


def test_the_curvature_is_that_of_autograds_jacobian(backend: TorchBackend, cars: ImageArray) -> None:
    decoder = folded_decoder(backend.model)
    latents = torch.from_numpy(backend.encode(cars[:3])[0])
    expected = torch.zeros(6, 6)
    for latent in latents:
        jacobian = torch.func.jacrev(lambda one: decoder.cells(one[None]).clamp(0, 1).flatten())(latent)
        expected += jacobian.T @ jacobian / len(latents)
    torch.testing.assert_close(mean_curvature(decoder, latents), expected, rtol=1e-3, atol=1e-3)


def test_the_statistics_are_those_of_the_latents(backend: TorchBackend, cars: ImageArray) -> None:
    latents, _ = backend.encode(cars)
    decoder = folded_decoder(backend.model)
    mean, precision, preconditioner = fit_refiner(decoder, latents)
    np.testing.assert_allclose(mean, latents.mean(0))
    np.testing.assert_allclose(precision.numpy() @ np.cov(latents.T), np.eye(6), atol=0.02)
    chosen = torch.from_numpy(latents[:: len(latents) // 96][:96])
    curvature = mean_curvature(decoder, chosen) + PRIOR_STRENGTH * precision
    product = preconditioner @ curvature
    torch.testing.assert_close(product / product[0, 0], torch.eye(6), atol=0.02, rtol=0)
    for matrix in (precision, preconditioner):
        assert torch.equal(matrix, matrix.half().float())


def test_statistics_are_read_as_they_were_saved(
    backend: TorchBackend, cars: ImageArray, tmp_path: Path
) -> None:
    statistics = fit_refiner(folded_decoder(backend.model), backend.encode(cars)[0])
    save_refiner(statistics, tmp_path / "refiner.npz")
    for one, other in zip(statistics, read_refiner(tmp_path / "refiner.npz"), strict=True):
        assert torch.equal(one, other)


def test_too_few_latents_are_refused(backend: TorchBackend, cars: ImageArray) -> None:
    with pytest.raises(ValueError, match="6 latents are too few for statistics in 6 dimensions"):
        fit_refiner(folded_decoder(backend.model), backend.encode(cars[:6])[0])


def test_another_architecture_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no refiner for the architecture 'principal'"):
        folded_decoder(VAE(PCA_RECIPE.model))
