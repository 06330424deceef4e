"""The arithmetic of the training bench, and that its loops really train."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from model_training.data.synthetic import draw_cars
from model_training.distributed import World
from model_training.networks.loss import negative_elbo
from model_training.recipe import Recipe
from tests.performance.bench.servers import REPOSITORY
from tests.performance.bench.tests.test_servers import pins
from tests.performance.training.__main__ import COMPILED, OURS, PLAIN, Speed, measure, ratios, table
from tests.performance.training.contestants import Clock, Fitted, Steps, own_steps, plain_steps

HERE = World(0, 1, torch.device("cpu"))
RECIPE = Recipe.from_dict(
    {
        "name": "tiny",
        "seed": 0,
        "model": {"width": 16, "height": 16, "channels": [4, 8], "latent_dim": 4},
        "training": {"epochs": 7, "batch_size": 4, "learning_rate": 1e-2},
    }
)
IMAGES = draw_cars(11, 16, 16, seed=0)


def losses(run: Steps, monkeypatch: pytest.MonkeyPatch, module: str) -> list[float]:
    """What each of forty steps cost."""
    seen: list[float] = []
    whole = negative_elbo

    def remember(*parts: object) -> object:
        loss = whole(*parts)  # type: ignore[arg-type]
        seen.append(loss.total.item())
        return loss

    monkeypatch.setattr(module, remember)
    run(40)
    return seen


def test_own_steps_are_the_training_of_the_repository_over_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    run = own_steps(RECIPE, IMAGES, HERE, compiled=False)
    found = losses(run, monkeypatch, "model_training.train.negative_elbo")
    assert len(found) == 40
    assert np.mean(found[-5:]) < np.mean(found[:5])


def test_the_plain_loop_trains_too(monkeypatch: pytest.MonkeyPatch) -> None:
    run = plain_steps(RECIPE, IMAGES, HERE)
    found = losses(run, monkeypatch, "tests.performance.training.contestants.negative_elbo")
    assert len(found) == 40
    assert np.mean(found[-5:]) < np.mean(found[:5])


def test_images_are_floats_that_are_sometimes_mirrored() -> None:
    torch.manual_seed(0)
    plain = torch.from_numpy(IMAGES[3]).permute(2, 0, 1) / 255

    def mirrored(image: Tensor) -> bool:
        assert torch.equal(image, plain) != torch.equal(image, plain.flip(2))
        return torch.equal(image, plain.flip(2))

    assert {mirrored(Fitted(IMAGES)[3]) for _ in range(20)} == {True, False}


def test_every_contestant_trains_in_every_round_and_a_failure_ends_only_its_own() -> None:
    order: list[str] = []

    def contestant(name: str) -> Clock:
        def seconds() -> float:
            order.append(name)
            if name == PLAIN and order.count(name) == 2:
                raise RuntimeError("it broke")
            return 2.0

        return seconds

    left_out: dict[str, str] = {}
    clocks = {name: contestant(name) for name in (OURS, COMPILED, PLAIN)}
    speeds = measure(clocks, 100, 3, left_out)
    assert left_out == {PLAIN: "it broke"}
    assert order[:3] == [COMPILED, PLAIN, OURS]
    assert [speed.round for speed in speeds if speed.name == OURS] == [1, 2, 3]
    assert {speed.per_second for speed in speeds} == {50.0}


def test_ratios_are_formed_within_a_round_and_hours_from_the_median() -> None:
    speeds = [
        *(Speed(OURS, number, rate) for number, rate in ((1, 100.0), (2, 200.0), (3, 300.0))),
        *(Speed(PLAIN, number, rate) for number, rate in ((1, 50.0), (2, 50.0))),
    ]
    found = ratios(speeds, OURS, PLAIN)
    assert found is not None
    assert (found.least, found.median, found.most) == (2.0, 3.0, 4.0)
    assert ratios(speeds, COMPILED, PLAIN) is None
    lines = table(speeds, epochs=36).splitlines()
    assert lines[2].startswith(f"| {OURS} | 200 (100-300) |")
    assert lines[3] == f"| {PLAIN} | 50 | 3 (2-4) |  | 2.00 |"


def test_requirements_are_exact_and_of_shared_versions() -> None:
    ours = pins(REPOSITORY / "constraints.txt")
    theirs = pins(Path(__file__).parents[1] / "bench" / "peers" / "pythae_trainer.txt")
    assert all(theirs.values())
    assert not set(theirs) & {"torch", "numpy"}
    assert theirs["cloudpickle"] == ours["cloudpickle"]
