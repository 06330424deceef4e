import dataclasses

import numpy as np
import torch
from torch import nn

from app.model.prior_networks import FineGenerator
from model_training.prior.fine_flow import FineField, FineStudent, fit_fine_flow
from model_training.prior.latent_images import LatentImages
from model_training.prior.targets import Targets
from tests.model_training.conftest import SMALL_PRIOR

ROWS, COLUMNS = 2, 3


def one_cell_each() -> torch.Tensor:
    """Twelve coordinates: each of the first six is one cell's first value, each of the last its second."""
    basis = torch.zeros(2, ROWS * COLUMNS, ROWS * COLUMNS, 2)
    for value in range(2):
        basis[value, :, :, value] = torch.eye(ROWS * COLUMNS)
    return basis.view(-1, ROWS, COLUMNS, 2)


def test_the_generator_that_is_served_is_the_student_that_was_trained() -> None:
    torch.manual_seed(0)
    parts = LatentImages(torch.randn(4, 4, 5, 3)), LatentImages(torch.randn(5, 4, 5, 3))
    student = FineStudent(*parts, dataclasses.replace(SMALL_PRIOR.fine.student, channels=8, blocks=2))
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                assert tensor is not None
                tensor.uniform_(0.5, 1.5)
    nn.init.normal_(student.exit.weight)
    nn.init.normal_(student.keep)
    points = np.random.default_rng(0).standard_normal((7, 9))
    with torch.no_grad():
        leading, trailing = torch.split(torch.from_numpy(points).float(), [4, 5], 1)
        expected = student.eval()(leading, trailing).numpy()
    completed = FineGenerator(student.arrays())(points)
    np.testing.assert_array_equal(completed[:, :4], points[:, :4])
    assert np.abs(expected - points[:, 4:]).max() > 0.1
    np.testing.assert_allclose(completed[:, 4:], expected, rtol=1e-4, atol=1e-4)


def test_fine_structure_follows_what_is_coarse_around_it() -> None:
    cells = ROWS * COLUMNS
    coarse = torch.randn(4000, cells, generator=torch.Generator().manual_seed(0))
    fine = (coarse.abs() - 0.8) / 0.6  # of variance 1 and uncorrelated with what it depends on
    targets = Targets(
        torch.cat([coarse, fine], 1),
        torch.full((4000, 2 * cells), 0.05),
        torch.eye(2 * cells),
        torch.ones(2 * cells),
    )
    config = dataclasses.replace(
        SMALL_PRIOR, steps=250, fine=dataclasses.replace(SMALL_PRIOR.fine, steps_ratio=1.0)
    )
    arrays = fit_fine_flow(targets, targets, one_cell_each(), coarse, config)
    points = np.random.default_rng(0).standard_normal((500, 2 * cells))
    completed = FineGenerator(arrays)(points)
    wanted = (np.abs(points[:, :cells]) - 0.8) / 0.6
    error = np.square(completed[:, cells:] - wanted).mean() / np.square(wanted).mean()
    assert error < 0.3


def test_an_untrained_field_stands_still() -> None:
    basis = one_cell_each()
    parts = LatentImages(basis[:6]), LatentImages(basis[6:])
    field = FineField(*parts, SMALL_PRIOR.fine.teacher, SMALL_PRIOR.velocity_fields)
    velocity = field(torch.randn(3, 6), torch.randn(3, 6), torch.rand(3, 1))
    torch.testing.assert_close(velocity, torch.zeros(3, 6), rtol=0, atol=0)
