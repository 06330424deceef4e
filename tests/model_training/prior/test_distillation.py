import dataclasses
from functools import partial

import torch
from torch import Tensor, nn

from model_training.prior.distillation import guided_ends, match_distribution, train_average
from model_training.prior_recipe import MatchingConfig, OptimizerConfig, PathsConfig

NUMBERS = 8
"""Of a draw."""
SPREAD = 0.8
MATCHING = MatchingConfig(
    steps_ratio=1.0,
    batch_size=64,
    learning_rate=1e-3,
    guidance=0.0,
    regression_weight=0.0,
    fake_batch_size=64,
    fake_steps_ratio=0.6,
)
OPTIMIZER = OptimizerConfig()
PATHS = PathsConfig(count=1000, steps_per_path=50, guidance=0.0, guided_from=0.0)


class Plain(nn.Module):
    """Numbers from all inputs."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, 64), nn.SiLU(), nn.Linear(64, NUMBERS))

    def forward(self, *inputs: Tensor) -> Tensor:
        made: Tensor = self.layers(torch.cat(inputs, 1))
        return made


class Student(Plain):
    """Of noise, which comes last, it makes little at first, as one does that has learnt means."""

    def __init__(self, inputs: int) -> None:
        super().__init__(inputs)
        self.scale = nn.Parameter(torch.tensor(0.2))

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.scale * inputs[-1] + super().forward(*inputs)


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
    ends = guided_ends(noise(), field, field, PATHS)
    assert 1.9 < ends.mean() < 2.1
    assert 0.9 * SPREAD < ends.std() < 1.1 * SPREAD


def test_where_the_weak_network_falls_short_the_teacher_is_followed_further() -> None:
    torch.manual_seed(0)
    teacher, weak = partial(velocity, 2.0), partial(velocity, 1.0)
    starts = noise()
    followed, further = (
        guided_ends(starts, teacher, weak, dataclasses.replace(PATHS, guidance=guidance))
        for guidance in (0.0, 1.0)
    )
    assert 1.9 < followed.mean() < 2.1
    assert further.mean() > followed.mean() + 0.5


def test_a_student_of_means_learns_how_they_spread() -> None:
    torch.manual_seed(0)
    field = partial(velocity, 1.0)
    student = Student(NUMBERS)
    assert student(noise()).std() < 0.5 * SPREAD
    student = match_distribution(
        student, Plain(NUMBERS + 1), field, field, lambda _: (), NUMBERS, 500, MATCHING, OPTIMIZER
    )
    drawn = student(noise())
    assert 0.8 < drawn.mean() < 1.2
    assert 0.7 * SPREAD < drawn.std(0).mean() < 1.3 * SPREAD


def test_a_student_fits_to_its_conditions() -> None:
    torch.manual_seed(0)

    def sides(count: int) -> tuple[Tensor]:
        return (torch.randint(2, (count, 1)) * 2.0 - 1,)

    def field(side: Tensor, points: Tensor, time: Tensor) -> Tensor:
        return velocity(side, points, time)

    fake = Plain(NUMBERS + 2)
    student = match_distribution(
        Student(NUMBERS + 1), fake, field, field, sides, NUMBERS, 500, MATCHING, OPTIMIZER
    )
    (side,) = sides(1000)
    drawn = student(side, noise()) * side
    assert 0.7 < drawn.mean() < 1.3
    assert 0.6 * SPREAD < drawn.std(0).mean() < 1.4 * SPREAD


def test_a_regression_loss_keeps_the_student_near() -> None:
    torch.manual_seed(0)
    field = partial(velocity, 1.0)

    def size(network: Student) -> Tensor:
        mean: Tensor = network(noise()).square().mean()
        return mean

    free, held = (
        match_distribution(
            Student(NUMBERS),
            Plain(NUMBERS + 1),
            field,
            field,
            lambda _: (),
            NUMBERS,
            500,
            dataclasses.replace(MATCHING, regression_weight=weight),
            OPTIMIZER,
            size,
        )(noise())
        for weight in (0.0, 100.0)
    )
    assert free.mean() > 0.8
    assert held.abs().mean() < 0.2


def test_guidance_begins_at_its_time() -> None:
    torch.manual_seed(0)
    teacher, weak = partial(velocity, 2.0), partial(velocity, 1.0)
    starts = noise()
    from_start, late, never = (
        guided_ends(starts, teacher, weak, dataclasses.replace(PATHS, guidance=guidance, guided_from=start))
        for guidance, start in ((1.0, 0.0), (1.0, 0.9), (0.0, 0.0))
    )
    assert never.mean() < late.mean() < from_start.mean()


def test_training_gives_the_average_of_the_weights_in_evaluation() -> None:
    torch.manual_seed(0)
    network = nn.Linear(2, 2, bias=False)

    def loss(network: nn.Module) -> Tensor:
        mean: Tensor = (network(torch.randn(64, 2)) - 1).square().mean()
        return mean

    before = network.weight.detach().clone()
    average = train_average(network, loss, 20, 0.1, dataclasses.replace(OPTIMIZER, warm_up_steps=1))
    assert not average.training
    assert not average.weight.requires_grad
    assert not torch.equal(average.weight, before)
    assert not torch.equal(average.weight, network.weight)
