import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from app.images.arrays import ImageArray
from app.model.prior import read_prior
from model_training import adversarial
from model_training.adversarial import Discriminator, fine_tune
from model_training.backends.torch_backend import TorchBackend
from model_training.prior.fit import FittedPrior, Gaussian, save_prior
from model_training.recipe import AdversarialConfig, Recipe
from model_training.run_folder import BEST, PRIOR
from model_training.torch_utils import to_float
from model_training.train import train
from tests.model_training.conftest import (
    ONE_PROCESS,
    PCA_RECIPE,
    SMALL_PRIOR,
    assert_same_weights,
    saved_weights,
)

CONFIG = AdversarialConfig(12, 32, 1e-3, 0.3, (4, 4, 8, 8), 0.8)
RECIPE = dataclasses.replace(PCA_RECIPE, adversarial=CONFIG)


@pytest.fixture(scope="module")
def finished(cars: ImageArray, other_cars: ImageArray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pca") / "run"
    train(PCA_RECIPE.with_epochs(5), cars, other_cars, out, ONE_PROCESS)
    save_prior(FittedPrior(Gaussian(np.zeros(6), np.eye(6)), {}, {}, SMALL_PRIOR), out / PRIOR)
    return out


@pytest.fixture
def pca_run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "pca"))


@pytest.fixture(autouse=True)
def short_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adversarial, "WARM_UP_STEPS", 2)
    monkeypatch.setattr(adversarial, "CHECKPOINT_SECONDS", 0.0)


def test_only_what_corrects_the_decoder_changes(
    pca_run: Path, cars: ImageArray, other_cars: ImageArray, tmp_path: Path
) -> None:
    figures = fine_tune(pca_run, tmp_path / "out", RECIPE, cars, other_cars)
    before, after = saved_weights(pca_run, BEST), saved_weights(tmp_path / "out", BEST)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("decoder.") and ".linear." not in name for name in changed)
    assert not [name for name in changed if "running" in name]
    assert figures["psnr"] > 10
    backends = TorchBackend(pca_run), TorchBackend(tmp_path / "out")
    same, mean = (backend.encode(other_cars)[0] for backend in backends)
    np.testing.assert_array_equal(mean, same)
    assert backends[1].recipe.adversarial == RECIPE.adversarial
    prior = (tmp_path / "out" / PRIOR).read_bytes()
    assert prior == (pca_run / PRIOR).read_bytes()
    assert read_prior(prior, 6).draw(1, 0).shape == (1, 6)


def test_a_resumed_run_ends_where_an_unbroken_one_does(
    pca_run: Path,
    cars: ImageArray,
    other_cars: ImageArray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fine_tune(pca_run, tmp_path / "whole", RECIPE, cars, other_cars)
    steps = []
    advance = adversarial.AdversarialFineTuning.advance

    def breaking(
        tuning: adversarial.AdversarialFineTuning, images: torch.Tensor, draws: torch.Tensor, bf16: bool
    ) -> torch.Tensor:
        steps.append(tuning.step)
        if len(steps) == 8:
            raise KeyboardInterrupt
        return advance(tuning, images, draws, bf16)

    monkeypatch.setattr(adversarial.AdversarialFineTuning, "advance", breaking)
    with pytest.raises(KeyboardInterrupt):
        fine_tune(pca_run, tmp_path / "broken", RECIPE, cars, other_cars)
    fine_tune(pca_run, tmp_path / "broken", RECIPE, cars, other_cars, resume=True)
    assert steps[8] == 7
    assert_same_weights(saved_weights(tmp_path / "whole", BEST), saved_weights(tmp_path / "broken", BEST))


def test_a_run_of_another_recipe_is_not_resumed(
    pca_run: Path, cars: ImageArray, other_cars: ImageArray, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="no checkpoint"):
        fine_tune(pca_run, out, RECIPE, cars, other_cars, resume=True)
    fine_tune(pca_run, out, RECIPE, cars, other_cars)
    other = dataclasses.replace(RECIPE, adversarial=dataclasses.replace(CONFIG, weight=0.5))
    with pytest.raises(ValueError, match="another recipe"):
        fine_tune(pca_run, out, other, cars, other_cars, resume=True)


def test_the_result_lies_between_the_weights_before_and_after(
    pca_run: Path, cars: ImageArray, other_cars: ImageArray, tmp_path: Path
) -> None:
    found = []
    for interpolation in (0.5, 1.0):
        recipe = dataclasses.replace(
            RECIPE, adversarial=dataclasses.replace(CONFIG, interpolation=interpolation)
        )
        fine_tune(pca_run, tmp_path / str(interpolation), recipe, cars, other_cars)
        found.append(saved_weights(tmp_path / str(interpolation), BEST))
    before = saved_weights(pca_run, BEST)
    for name, half in found[0].items():
        if half.is_floating_point():
            torch.testing.assert_close(half, (before[name] + found[1][name]) / 2)


def test_the_decoder_follows_the_images_and_the_discriminator(cars: ImageArray, pca_run: Path) -> None:
    def moved(weight: float) -> torch.Tensor:
        config = dataclasses.replace(CONFIG, weight=weight)
        model = TorchBackend(pca_run).model
        tuning = adversarial.AdversarialFineTuning(RECIPE, config, model)
        images = to_float(torch.from_numpy(cars[:32]))
        draws = torch.zeros(32, 6)
        for _ in range(4):
            figures = tuning.advance(images, draws, bf16=False)
        assert figures.shape == (4,)
        return torch.cat([p.detach().flatten() for p in model.decoder.parameters()])

    assert not torch.equal(moved(0.0), moved(1.0))
    assert torch.equal(moved(1.0), moved(1.0))


def test_the_discriminator_tells_sameness() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(32, 16, (4, 4, 8, 8)).eval()
    patches, whole = discriminator(torch.rand(5, 3, 16, 32))
    assert patches.shape == (5, 1, 2, 4)
    assert whole.shape == (5, 1)
    same = torch.rand(1, 3, 16, 32)
    _, among_same = discriminator(same.expand(5, -1, -1, -1))
    _, among_others = discriminator(torch.cat([same, torch.rand(4, 3, 16, 32)]))
    assert not torch.allclose(among_same[0], among_others[0], atol=1e-5)


def test_what_cannot_be_fine_tuned_is_refused(
    pca_run: Path, run_folder: Path, cars: ImageArray, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=r"has no \[adversarial\]"):
        fine_tune(pca_run, out, PCA_RECIPE, cars, cars)
    with pytest.raises(ValueError, match=r"has no \[adversarial\]"):
        fine_tune(run_folder, out, RECIPE, cars, cars)
    convolutional = dataclasses.replace(RECIPE, model=TorchBackend(run_folder).recipe.model)
    with pytest.raises(ValueError, match="Gaussian"):
        fine_tune(run_folder, out, convolutional, cars, cars)
    (pca_run / PRIOR).unlink()
    with pytest.raises(ValueError, match="fit-prior comes first"):
        fine_tune(pca_run, out, RECIPE, cars, cars)


@pytest.mark.parametrize(
    "change",
    [{"steps": 0}, {"interpolation": 0.0}, {"weight": -1.0}, {"channels": (1, 2, 3)}, {"learning_rate": 0.0}],
)
def test_impossible_settings_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="adversarial"):
        Recipe.from_dict({**RECIPE.to_dict(), "adversarial": {**dataclasses.asdict(CONFIG), **change}})


def test_a_recipe_that_a_run_recorded_under_older_names_is_read() -> None:
    recorded = RECIPE.to_dict()
    old = recorded.pop("adversarial")
    old["share"] = old.pop("interpolation")
    assert Recipe.from_dict({**recorded, "sharpening": old}) == RECIPE
    assert Recipe.from_dict({**recorded, "sharpening": None}) == PCA_RECIPE
