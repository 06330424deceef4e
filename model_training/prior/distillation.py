"""Distillation: how the networks of the prior learn, large ones from latents, small ones from large ones.

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
from typing import TypeVar

import torch
from torch import Tensor, nn

from model_training.prior_recipe import MatchingConfig, OptimizerConfig, PathsConfig
from model_training.torch_utils import cosine_with_warm_up, has_bf16, set_learning_rate, update_ema

log = logging.getLogger(__name__)

LOG_STEPS = 250

Network = TypeVar("Network", bound=nn.Module)
Field = Callable[..., Tensor]
"""Velocities (N, K) at points (N, K) and times (N, 1); before these come their conditions, if any."""


def flow_matching_loss(network: Field, starts: Tensor, ends: Tensor, weight: Tensor | float = 1) -> Tensor:
    """Mean square error of the velocities on the straight lines from starts to ends, at random times."""
    time = torch.rand(len(ends), 1)
    error = network((1 - time) * starts + time * ends, time) - (ends - starts)
    mean: Tensor = (weight * error.square()).mean()
    return mean


def train_average(
    network: Network,
    loss: Callable[[nn.Module], Tensor],
    steps: int,
    learning_rate: float,
    config: OptimizerConfig,
) -> Network:
    """Train a network; gives the moving average of its weights and of batch norm's statistics, evaluated."""
    average = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=config.weight_decay, fused=True)
    fast = has_bf16(torch.device("cpu"))
    for step in range(steps):
        set_learning_rate(optimizer, cosine_with_warm_up(learning_rate, step, steps, config.warm_up_steps))
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            error = loss(network)
        error.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), config.max_gradient_norm)
        optimizer.step()
        update_ema(average, network, config.average, step)
    return average.eval()


def guided_ends(starts: Tensor, teacher: Field, weak: Field, config: PathsConfig) -> Tensor:
    """Where the teacher's paths end that begin at (N, K) starts, by Adams-Bashforth's second-order steps.

    From time `guided_from` on the teacher is followed `guidance` times its difference to the weak network
    further than it goes.
    """
    points, before, steps = starts.clone(), None, config.steps_per_path
    fast = has_bf16(torch.device("cpu"))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=fast):
        for step in range(steps):
            time = torch.full((len(points), 1), step / steps)
            velocity = teacher(points, time).float()
            if step >= config.guided_from * steps:
                velocity = velocity + config.guidance * (velocity - weak(points, time).float())
            points += (velocity if before is None else 1.5 * velocity - 0.5 * before) / steps
            before = velocity
    return points


def match_distribution(
    student: Network,
    fake: nn.Module,
    teacher: Field,
    weak: Field,
    draw_conditions: Callable[[int], tuple[Tensor, ...]],
    coordinates: int,
    steps: int,
    config: MatchingConfig,
    optimizer_config: OptimizerConfig,
    regression_loss: Callable[[Network], Tensor] | None = None,
) -> Network:
    """Train a student on, until what it draws is distributed as the guided teacher would have it.

    Another network, the fake score network, learns the velocities of the student's draws. Noise is added to a
    draw, and where that network would move it elsewhere than the teacher does, the student follows the
    teacher.

    Args:
        student: makes (N, `coordinates`) draws of noise of that shape, after what they are to fit to.
        fake: a network to learn the velocities of the student's draws.
        draw_conditions: gives so many rows of what draws are to fit to: tensors, or none.
        steps: of the flow, of which the configuration gives multiples.
        regression_loss: keeps the student near to something; weighed by `regression_weight`.

    Returns:
        the moving average of the student.
    """
    student, fake = student.eval(), fake.eval()  # without dropout: no example comes twice
    average = copy.deepcopy(student).requires_grad_(False)
    fake_optimizer = torch.optim.AdamW(fake.parameters(), betas=config.fake_betas, weight_decay=0, fused=True)
    optimizer = torch.optim.AdamW(student.parameters(), betas=config.betas, weight_decay=0, fused=True)
    fast = has_bf16(torch.device("cpu"))
    warm_up_steps = optimizer_config.warm_up_steps

    def draw(count: int) -> tuple[tuple[Tensor, ...], Tensor]:
        conditions = draw_conditions(count)
        return conditions, student(*conditions, torch.randn(count, coordinates))

    def update_fake() -> None:
        with torch.no_grad():
            conditions, draws = draw(config.fake_batch_size)
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            error = flow_matching_loss(partial(fake, *conditions), torch.randn_like(draws), draws)
        fake_optimizer.zero_grad()
        error.backward()  # type: ignore[no-untyped-call]
        fake_optimizer.step()

    student.requires_grad_()
    for step in range(math.ceil(config.fake_steps_ratio * steps)):
        warm_up = min(1.0, (step + 1) / warm_up_steps)
        set_learning_rate(fake_optimizer, config.fake_first_learning_rate * warm_up)
        update_fake()
    set_learning_rate(fake_optimizer, config.fake_learning_rate)
    student_steps = math.ceil(config.steps_ratio * steps)
    for step in range(student_steps):
        conditions, draws = draw(config.batch_size)
        fields = [partial(field, *conditions) for field in (fake, teacher, weak)]
        gradient = _matching_gradient(draws.detach(), fields, config.guidance)
        loss: Tensor = (gradient * draws).mean()
        if regression_loss is not None and config.regression_weight > 0:
            loss = loss + config.regression_weight * regression_loss(student)
        set_learning_rate(
            optimizer, cosine_with_warm_up(config.learning_rate, step, student_steps, warm_up_steps)
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(student.parameters(), optimizer_config.max_gradient_norm)
        optimizer.step()
        update_ema(average, student, config.average, step)
        for _ in range(config.fake_update_ratio):
            update_fake()
        if (step + 1) % LOG_STEPS == 0:
            log.info("distributions at step %d: %.4f", step + 1, float(gradient.square().mean()))
    return average


@torch.no_grad()
def _matching_gradient(draws: Tensor, fields: Sequence[Field], guidance: float) -> Tensor:
    """Where (N, K) draws should not go: from where the teacher puts them back to, after some noise, to where
    their own velocities do; in units of how far that is.

    Args:
        fields: the fake score network's, the teacher's and the weak network's.
    """
    fake, teacher, weak = fields
    time, noise = 0.02 + 0.96 * torch.rand(len(draws), 1), torch.randn_like(draws)
    points = (1 - time) * noise + time * draws
    with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16(torch.device("cpu"))):
        wanted, own = teacher(points, time).float(), fake(points, time).float()
        wanted = wanted + guidance * (wanted - weak(points, time).float())
    back = points + (1 - time) * wanted
    distance = (draws - back).abs().mean(1, keepdim=True)
    gradient: Tensor = (1 - time) * (own - wanted) / distance
    return gradient
