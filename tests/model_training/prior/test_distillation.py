from functools import partial

import torch
from torch import Tensor, nn

from model_training.prior.distillation import Matching, guided_ends, match_distribution

NUMBERS = 8
"""Of a draw."""
SPREAD = 0.8
HOW = Matching(steps=500, own_steps=300, batch=64, own_batch=64, rate=1e-3, guidance=0.0)


class Plain(nn.Module):
    """Numbers from whatever it is told."""

    def __init__(self, told: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(told, 64), nn.SiLU(), nn.Linear(64, NUMBERS))

    def forward(self, *told: Tensor) -> Tensor:
        made: Tensor = self.layers(torch.cat(told, 1))
        return made


class Student(Plain):
    """Of noise, which comes last, it makes little at first, as one does that has learnt means."""

    def __init__(self, told: int) -> None:
        super().__init__(told)
        self.scale = nn.Parameter(torch.tensor(0.2))

    def forward(self, *told: Tensor) -> Tensor:
        return self.scale * told[-1] + super().forward(*told)


def velocity(mean: Tensor | float, points: Tensor, time: Tensor) -> Tensor:
    """The true one from N(0, I) to a Gaussian around `mean`."""
    variance = (1 - time) ** 2 + (time * SPREAD) ** 2
    ends = mean + time * SPREAD**2 / variance * (points - time * mean)
    return (ends - points) / (1 - time)


def noise() -> Tensor:
    return torch.randn(1000, NUMBERS)


def test_paths_end_where_the_velocities_lead() -> None:
    torch.manual_seed(0)
    field = partial(velocity, 2.0)
    ends = guided_ends(noise(), field, field, steps=50, guidance=0.0, guided_from=0.0)
    assert 1.9 < ends.mean() < 2.1
    assert 0.9 * SPREAD < ends.std() < 1.1 * SPREAD


def test_where_the_weak_network_falls_short_the_teacher_is_followed_further() -> None:
    torch.manual_seed(0)
    teacher, weak = partial(velocity, 2.0), partial(velocity, 1.0)
    starts = noise()
    followed, further = (guided_ends(starts, teacher, weak, 50, guidance, 0.0) for guidance in (0.0, 1.0))
    assert 1.9 < followed.mean() < 2.1
    assert further.mean() > followed.mean() + 0.5


def test_a_student_of_means_learns_how_they_spread() -> None:
    torch.manual_seed(0)
    field = partial(velocity, 1.0)
    student = Student(NUMBERS)
    assert student(noise()).std() < 0.5 * SPREAD
    drawn = match_distribution(student, Plain(NUMBERS + 1), field, field, lambda _: (), NUMBERS, HOW)(noise())
    assert 0.8 < drawn.mean() < 1.2
    assert 0.7 * SPREAD < drawn.std(0).mean() < 1.3 * SPREAD


def test_a_student_fits_to_what_is_given() -> None:
    torch.manual_seed(0)

    def sides(count: int) -> tuple[Tensor]:
        return (torch.randint(2, (count, 1)) * 2.0 - 1,)

    def field(side: Tensor, points: Tensor, time: Tensor) -> Tensor:
        return velocity(side, points, time)

    student = match_distribution(Student(NUMBERS + 1), Plain(NUMBERS + 2), field, field, sides, NUMBERS, HOW)
    (side,) = sides(1000)
    drawn = student(side, noise()) * side
    assert 0.7 < drawn.mean() < 1.3
    assert 0.6 * SPREAD < drawn.std(0).mean() < 1.4 * SPREAD


def test_a_student_strays_only_as_far_as_it_may() -> None:
    torch.manual_seed(0)
    field = partial(velocity, 1.0)

    def stray(network: Student) -> Tensor:
        far: Tensor = network(noise()).square().mean()
        return 100 * far

    free, held = (
        match_distribution(
            Student(NUMBERS), Plain(NUMBERS + 1), field, field, lambda _: (), NUMBERS, HOW, loss
        )(noise())
        for loss in (None, stray)
    )
    assert free.mean() > 0.8
    assert held.abs().mean() < 0.2
