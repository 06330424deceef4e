from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from app.model.prior import GeneratorPrior, read_prior
from app.model.prior_networks import CoarseGenerator, FineGenerator
from model_training.backends.base import Backend, Floats
from model_training.prior import fit
from model_training.prior.fine_flow import Student, fit_details
from model_training.prior.latent_images import SmallPictures
from model_training.prior.targets import Targets
from tests.model_training.evaluation.test_reconstructions import Mirror

RANDOM = np.random.default_rng(0)
ROWS, COLUMNS = 2, 3


def one_cell_each() -> torch.Tensor:
    """Twelve coordinates: each of the first six is one cell's first value, each of the last its second."""
    picture = torch.zeros(2, ROWS * COLUMNS, ROWS * COLUMNS, 2)
    for value in range(2):
        picture[value, :, :, value] = torch.eye(ROWS * COLUMNS)
    return picture.view(-1, ROWS, COLUMNS, 2)


def test_the_details_that_are_served_are_those_that_were_trained() -> None:
    torch.manual_seed(0)
    parts = SmallPictures(torch.randn(4, 4, 5, 3)), SmallPictures(torch.randn(5, 4, 5, 3))
    student = Student(*parts, channels=8, blocks=2)
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                assert tensor is not None
                tensor.uniform_(0.5, 1.5)
    nn.init.normal_(student.exit.weight)
    nn.init.normal_(student.keep)
    points = RANDOM.standard_normal((7, 9))
    with torch.no_grad():
        leading, trailing = torch.split(torch.from_numpy(points).float(), [4, 5], 1)
        expected = student.eval()(leading, trailing).numpy()
    completed = FineGenerator(student.arrays())(points)
    np.testing.assert_array_equal(completed[:, :4], points[:, :4])
    assert np.abs(expected - points[:, 4:]).max() > 0.1
    np.testing.assert_allclose(completed[:, 4:], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("small_flow")
def test_details_follow_what_is_coarse_around_them() -> None:
    cells = ROWS * COLUMNS
    coarse = torch.randn(4000, cells, generator=torch.Generator().manual_seed(0))
    fine = (coarse.abs() - 0.8) / 0.6  # of variance 1 and uncorrelated with what it depends on
    targets = Targets(
        torch.cat([coarse, fine], 1),
        torch.full((4000, 2 * cells), 0.05),
        torch.eye(2 * cells),
        torch.ones(2 * cells),
    )
    arrays = fit_details(targets, targets, one_cell_each(), coarse, steps=250)
    points = RANDOM.standard_normal((500, 2 * cells))
    completed = FineGenerator(arrays)(points)
    wanted = (np.abs(points[:, :cells]) - 0.8) / 0.6
    error = np.square(completed[:, cells:] - wanted).mean() / np.square(wanted).mean()
    assert error < 0.3


class Linear(Mirror):
    """Latents of 70 numbers, which are averages over the picture."""

    def encode(self, pixels: np.ndarray) -> tuple[Floats, Floats]:
        flat = pixels.reshape(len(pixels), -1) / 255
        mean = (flat @ np.random.default_rng(4).standard_normal((flat.shape[1], 70))).astype(np.float32)
        return mean, np.full_like(mean, -6.0)


@pytest.mark.usefixtures("small_flow")
def test_a_prior_of_many_coordinates_has_details(cars: np.ndarray, tmp_path: Path) -> None:
    backend: Backend = Linear(cars)
    gaussian, flow, found = fit.fit(backend, cars, cars[:40], steps=2)
    fitted = GeneratorPrior(gaussian.mean, gaussian.cholesky, CoarseGenerator(flow), FineGenerator(found))
    path = tmp_path / "prior.npz"
    fit.save(gaussian, flow, found, path)
    read = read_prior(path.read_bytes(), 70)
    assert isinstance(read, GeneratorPrior)
    assert read.fine is not None
    np.testing.assert_allclose(read.draw(5, 1), fitted.draw(5, 1), atol=0.05)
