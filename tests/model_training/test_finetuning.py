import dataclasses
from pathlib import Path

import pytest
import torch

from app.images.arrays import ImageArray
from model_training import finetuning
from model_training.backends.torch_backend import TorchBackend
from model_training.evaluation import simclr
from model_training.finetuning import FeatureLoss, Finetuning, finetune
from model_training.recipe import FeatureConfig, FinetuningConfig
from model_training.refinement.fit import fit_refiner, folded_decoder
from model_training.run_folder import BEST
from model_training.torch_utils import to_float
from tests.model_training.conftest import RECIPE, SUBPIXEL_RECIPE, assert_same_weights, saved_weights

FEATURES = FeatureConfig(
    seed=1,
    channels=(4, 8),
    first_stride=2,
    features=8,
    epochs=1,
    batch_size=32,
    learning_rate=1e-3,
    temperature=0.1,
)
CONFIG = FinetuningConfig(
    steps=12,
    batch_size=32,
    learning_rate=1e-3,
    feature_weight=0.5,
    refined=0.5,
    refinement_steps=2,
    features=FEATURES,
)
FINETUNED = dataclasses.replace(SUBPIXEL_RECIPE, finetuning=CONFIG)


@pytest.fixture(autouse=True)
def saving_at_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetuning, "CHECKPOINT_SECONDS", 0.0)


def test_linear_maps_posteriors_and_statistics_stay(
    subpixel_run: Path, cars: ImageArray, other_cars: ImageArray, tmp_path: Path
) -> None:
    figures = finetune(subpixel_run, tmp_path / "out", FINETUNED, cars, other_cars)
    before, after = saved_weights(subpixel_run, BEST), saved_weights(tmp_path / "out", BEST)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"encoder.correction.weight", "decoder.correction.weight", "decoder.compress.weight"} <= changed
    encoder = {name for name in changed if name.startswith("encoder.")}
    assert all(name.startswith(("encoder.convolutions", "encoder.correction")) for name in encoder)
    assert not [name for name in changed if "running" in name or ".linear." in name]
    assert figures["psnr"] > 10


def test_a_resumed_run_ends_where_an_unbroken_one_does(
    subpixel_run: Path,
    cars: ImageArray,
    other_cars: ImageArray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finetune(subpixel_run, tmp_path / "whole", FINETUNED, cars, other_cars)
    steps = []
    advance = finetuning.Finetuning.advance

    def breaking(
        tuning: finetuning.Finetuning, images: torch.Tensor, shift: tuple[int, int], bf16: bool
    ) -> torch.Tensor:
        steps.append(tuning.step)
        if len(steps) == 8:
            raise KeyboardInterrupt
        return advance(tuning, images, shift, bf16)

    monkeypatch.setattr(finetuning.Finetuning, "advance", breaking)
    with pytest.raises(KeyboardInterrupt):
        finetune(subpixel_run, tmp_path / "broken", FINETUNED, cars, other_cars)
    finetune(subpixel_run, tmp_path / "broken", FINETUNED, cars, other_cars, resume=True)
    assert steps[8] == 7
    assert_same_weights(saved_weights(tmp_path / "whole", BEST), saved_weights(tmp_path / "broken", BEST))


def test_a_run_of_another_recipe_is_not_resumed(
    subpixel_run: Path, cars: ImageArray, other_cars: ImageArray, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="no checkpoint"):
        finetune(subpixel_run, out, FINETUNED, cars, other_cars, resume=True)
    finetune(subpixel_run, out, FINETUNED, cars, other_cars)
    other = dataclasses.replace(FINETUNED, finetuning=dataclasses.replace(CONFIG, feature_weight=0.1))
    with pytest.raises(ValueError, match="another recipe"):
        finetune(subpixel_run, out, other, cars, other_cars, resume=True)


def test_a_recipe_without_the_stage_and_one_of_another_model_are_refused(
    subpixel_run: Path, cars: ImageArray, other_cars: ImageArray, tmp_path: Path
) -> None:
    for recipe in (SUBPIXEL_RECIPE, dataclasses.replace(RECIPE, finetuning=CONFIG)):
        with pytest.raises(ValueError, match=r"no \[finetuning\] for the model"):
            finetune(subpixel_run, tmp_path / "out", recipe, cars, other_cars)


def test_the_first_images_of_a_batch_are_decoded_from_refined_latents(
    subpixel_run: Path, cars: ImageArray
) -> None:
    backend = TorchBackend(subpixel_run)
    decoder = folded_decoder(backend.model)
    statistics = fit_refiner(decoder, backend.encode(cars)[0])
    tuning = Finetuning(FINETUNED, CONFIG, backend.model, feature_loss(), statistics)
    images = to_float(torch.from_numpy(cars[:16]))
    refined, encoded, features = tuning.advance(torch.cat([images, images]), (0, 0), bf16=False)
    assert refined < encoded
    assert features > 0


def feature_loss() -> FeatureLoss:
    torch.manual_seed(0)
    recipe = simclr.FeatureRecipe(width=24, height=16, **dataclasses.asdict(FEATURES))
    return FeatureLoss(simclr.FeatureExtractor(recipe))


def test_the_feature_loss_is_zero_for_the_same_images_and_grows_with_blur() -> None:
    loss, images = feature_loss(), torch.rand(4, 3, 16, 24)
    blurred = torch.nn.functional.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    assert loss(images, images, (3, 5)) == 0
    assert loss(blurred, images, (3, 5)) > loss((images + blurred) / 2, images, (3, 5)) > 0


def test_the_grid_of_the_features_moves_with_the_shift() -> None:
    loss, images = feature_loss(), torch.rand(4, 3, 16, 24)
    other = torch.rand(4, 3, 16, 24)
    assert loss(other, images, (0, 0)) != loss(other, images, (1, 0)) != loss(other, images, (0, 1))


def test_the_feature_network_learns_nothing_from_the_images_it_judges() -> None:
    loss, output = feature_loss(), torch.rand(4, 3, 16, 24, requires_grad=True)
    loss(output, torch.rand(4, 3, 16, 24), (0, 0)).backward()
    assert output.grad is not None
    assert output.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in loss.parameters())
