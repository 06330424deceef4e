from pathlib import Path

import numpy as np
import torch

from app.model.prior_networks import CoarseGenerator
from model_training.prior.coarse_flow import CoarseField, CoarseStudent, FakeField
from tests.model_training.conftest import SMALL_PRIOR
from tests.model_training.prior.conftest import prior_of_coarse_flow


def test_a_flow_finds_what_no_gaussian_can_be(tmp_path: Path) -> None:
    angles = np.random.default_rng(0).uniform(0, 2 * np.pi, 4000)
    ring = np.stack([3 * np.cos(angles), np.sin(angles)], axis=1)

    def inside(points: np.ndarray) -> float:
        return float((np.hypot(points[:, 0] / 3, points[:, 1]) < 0.6).mean())

    draws = [
        prior_of_coarse_flow(ring, tmp_path / "prior.npz", steps).draw(1000, seed=1) for steps in (1, 800)
    ]
    assert inside(draws[0]) > 0.2
    assert inside(draws[1]) < 0.7 * inside(draws[0])
    np.testing.assert_allclose(np.cov(draws[1].T), np.cov(ring.T), atol=0.6)


def test_the_generator_that_is_served_is_the_student_that_was_trained() -> None:
    torch.manual_seed(0)
    student = CoarseStudent(5, 32, 2)
    torch.nn.init.normal_(student.exit.weight, std=0.1)
    points = np.random.default_rng(0).standard_normal((7, 5))
    with torch.no_grad():
        expected = student(torch.from_numpy(points).float()).numpy()
    carried = CoarseGenerator(student.arrays())(points)
    assert np.abs(carried - points).max() > 0.01
    np.testing.assert_allclose(carried, expected, atol=1e-5)


def test_an_untrained_student_leaves_points_where_they_are() -> None:
    points = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(CoarseStudent(5, 32, 2)(points), points, rtol=0, atol=0)


def test_velocities_depend_on_the_time_and_on_all_coordinates() -> None:
    torch.manual_seed(0)
    basis = torch.rand(5, 2, 3, 4) - 0.5
    fields = (
        CoarseField(basis, SMALL_PRIOR.coarse.teacher, SMALL_PRIOR.velocity_fields),
        FakeField(5, SMALL_PRIOR.coarse.fake, SMALL_PRIOR.velocity_fields),
    )
    for field in fields:
        for parameter in field.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        points, time = torch.randn(1, 5, requires_grad=True), torch.tensor([[0.5]], requires_grad=True)
        velocity = field.eval()(points, time)
        assert velocity.shape == (1, 5)
        velocity.sum().backward()
        assert points.grad is not None
        assert time.grad is not None
        assert (points.grad != 0).all()
        assert (time.grad != 0).all()
