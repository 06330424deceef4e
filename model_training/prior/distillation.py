"""How the networks of the prior learn: large ones from latents, small ones from large ones.

A large network learns the velocities that carry N(0, I) to the latents (flow matching, Lipman et al. 2023).
Where it and a weak network disagree, it is followed further than it goes (autoguidance, Karras et al. 2024):
both err to the same side, towards latents that lie between those of cars. The two ends of such paths teach
the network that is kept to go from the one to the other in one pass. Where it cannot tell them apart it goes
to their mean, and so it learns on, until what it draws has the distribution that the guided network knows
(distribution matching distillation, Yin et al. 2024).
"""

import copy
import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from model_training.torch_utils import has_bf16

log = logging.getLogger(__name__)

LEARNING_RATE, WARM_UP, WEIGHT_DECAY, AVERAGE = 1e-3, 200, 0.01, 0.999
OWN_RATE, OWN_BETAS, OWN_STEPS = 5e-4, (0.9, 0.99), 2
"""Of the network that follows the student; it has so many steps for one of the student's."""
MATCHING_BETAS, MATCHING_AVERAGE = (0.5, 0.99), 0.99
LARGEST_GRADIENT = 1.0
LOG_STEPS = 250

Network = TypeVar("Network", bound=nn.Module)
Field = Callable[..., Tensor]
"""Velocities (N, K) at points (N, K) and times (N, 1); before these come what it depends on, if anything."""


class Matching(NamedTuple):
    """How distributions are matched: the student's steps, and for how many its own velocities are learnt
    before; draws of a step of either; the student's learning rate, and how far the teacher is guided."""

    steps: int
    own_steps: int
    batch: int
    own_batch: int
    rate: float
    guidance: float


def matching_loss(network: Field, starts: Tensor, ends: Tensor, weight: Tensor | float = 1) -> Tensor:
    """Mean square error of the velocities on the straight lines from starts to ends, at random times."""
    time = torch.rand(len(ends), 1)
    error = network((1 - time) * starts + time * ends, time) - (ends - starts)
    mean: Tensor = (weight * error.square()).mean()
    return mean


def train_average(
    network: Network, loss: Callable[[nn.Module], Tensor], steps: int, learning_rate: float = LEARNING_RATE
) -> Network:
    """Train a network; gives the moving average of its weights and of batch norm's statistics, evaluated."""
    average = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=WEIGHT_DECAY, fused=True)
    fast = has_bf16(torch.device("cpu"))
    for step in range(steps):
        _set_rate(optimizer, learning_rate * min(1.0, (step + 1) / WARM_UP) * _cosine(step / steps))
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            error = loss(network)
        error.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
        optimizer.step()
        decay = min(AVERAGE, (step + 1) / (step + 10))
        with torch.no_grad():
            for mean, value in zip(average.parameters(), network.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)
            for kept, statistic in zip(average.buffers(), network.buffers(), strict=True):
                if kept.is_floating_point():
                    kept.lerp_(statistic, 1 - decay)
    return average.eval()


def guided_ends(
    starts: Tensor, teacher: Field, weak: Field, steps: int, guidance: float, guided_from: float
) -> Tensor:
    """Where the teacher's paths end that begin at (N, K) starts, by Adams-Bashforth's second-order steps.

    From time `guided_from` on the teacher is followed `guidance` times its difference to the weak network
    further than it goes.
    """
    points, before = starts.clone(), None
    fast = has_bf16(torch.device("cpu"))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=fast):
        for step in range(steps):
            time = torch.full((len(points), 1), step / steps)
            velocity = teacher(points, time).float()
            if step >= guided_from * steps:
                velocity = velocity + guidance * (velocity - weak(points, time).float())
            points += (velocity if before is None else 1.5 * velocity - 0.5 * before) / steps
            before = velocity
    return points


def match_distribution(
    student: Network,
    own: nn.Module,
    teacher: Field,
    weak: Field,
    given: Callable[[int], tuple[Tensor, ...]],
    coordinates: int,
    how: Matching,
    stray: Callable[[Network], Tensor] | None = None,
) -> Network:
    """Train a student on, until what it draws is distributed as the guided teacher would have it.

    Another network learns the velocities of the student's draws. Noise is added to a draw, and where that
    network would move it elsewhere than the teacher does, the student follows the teacher.

    Args:
        student: makes (N, `coordinates`) draws of noise of that shape, after what they are to fit to.
        own: a network to learn the velocities of the student's draws.
        given: so many rows of what draws are to fit to: tensors, or none.
        stray: a further loss, which keeps the student near to something.

    Returns:
        the moving average of the student.
    """
    student, own = student.eval(), own.eval()  # without dropout: no example comes twice
    average = copy.deepcopy(student).requires_grad_(False)
    follow = torch.optim.AdamW(own.parameters(), betas=OWN_BETAS, weight_decay=0, fused=True)
    optimizer = torch.optim.AdamW(student.parameters(), betas=MATCHING_BETAS, weight_decay=0, fused=True)
    fast = has_bf16(torch.device("cpu"))

    def draw(count: int) -> tuple[tuple[Tensor, ...], Tensor]:
        fixed = given(count)
        return fixed, student(*fixed, torch.randn(count, coordinates))

    def follow_student() -> None:
        with torch.no_grad():
            fixed, draws = draw(how.own_batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            error = matching_loss(partial(own, *fixed), torch.randn_like(draws), draws)
        follow.zero_grad()
        error.backward()  # type: ignore[no-untyped-call]
        follow.step()

    student.requires_grad_()
    for step in range(how.own_steps):
        _set_rate(follow, LEARNING_RATE * min(1.0, (step + 1) / WARM_UP))
        follow_student()
    _set_rate(follow, OWN_RATE)
    for step in range(how.steps):
        fixed, draws = draw(how.batch)
        fields = [partial(field, *fixed) for field in (own, teacher, weak)]
        correction = _correction(draws.detach(), fields, how.guidance)
        loss: Tensor = (correction * draws).mean()
        if stray is not None:
            loss = loss + stray(student)
        _set_rate(optimizer, how.rate * min(1.0, (step + 1) / WARM_UP) * _cosine(step / how.steps))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(student.parameters(), LARGEST_GRADIENT)
        optimizer.step()
        decay = min(MATCHING_AVERAGE, (step + 1) / (step + 10))
        with torch.no_grad():
            for mean, value in zip(average.parameters(), student.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)
        for _ in range(OWN_STEPS):
            follow_student()
        if (step + 1) % LOG_STEPS == 0:
            log.info("distributions at step %d: %.4f", step + 1, float(correction.square().mean()))
    return average


@torch.no_grad()
def _correction(draws: Tensor, fields: Sequence[Field], guidance: float) -> Tensor:
    """Where (N, K) draws should not go: from where the teacher puts them back to, after some noise, to where
    their own velocities do; in units of how far that is.

    Args:
        fields: their own, the teacher's and the weak network's.
    """
    own, teacher, weak = fields
    time, noise = 0.02 + 0.96 * torch.rand(len(draws), 1), torch.randn_like(draws)
    points = (1 - time) * noise + time * draws
    with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16(torch.device("cpu"))):
        wanted, followed = teacher(points, time).float(), own(points, time).float()
        wanted = wanted + guidance * (wanted - weak(points, time).float())
    back = points + (1 - time) * wanted
    distance = (draws - back).abs().mean(1, keepdim=True)
    correction: Tensor = (1 - time) * (followed - wanted) / distance
    return correction


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _cosine(progress: float) -> float:
    """From 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * progress))
