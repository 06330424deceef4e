import dataclasses

import numpy as np
import pytest
import torch

from app.images.arrays import ImageArray
from app.images.quality import psnr
from model_training.networks.pca_vae import half_size, principal_components
from model_training.networks.vae import VAE, parameter_count
from model_training.recipe import PcaVaeConfig, Recipe
from model_training.torch_utils import to_float

CONFIG = PcaVaeConfig(width=24, height=16, latent_dim=6, hidden=16, features=4, channels=(8, 12))


def test_the_components_are_orthonormal_and_carry_the_most_variance_first(cars: ImageArray) -> None:
    torch.manual_seed(0)
    mean, basis, variance = principal_components(cars, 6)
    torch.testing.assert_close(basis.T @ basis, torch.eye(6), atol=1e-4, rtol=0)
    assert (variance.diff() <= 0).all()
    small = half_size(torch.from_numpy(cars))
    rows = torch.cat([small, small.flip(3)]).flatten(1)
    torch.testing.assert_close(mean, rows.mean(0))
    exact = np.linalg.eigvalsh(np.cov(rows.numpy().T, bias=True))[::-1][:6]
    np.testing.assert_allclose(variance.numpy(), exact, rtol=1e-3)
    coordinates = (rows - mean) @ basis
    torch.testing.assert_close(coordinates.square().mean(0), variance, rtol=1e-3, atol=1e-5)


def test_a_model_begins_near_the_linear_codec_and_far_from_chance(
    cars: ImageArray, other_cars: ImageArray
) -> None:
    torch.manual_seed(0)
    begun, random = VAE(CONFIG).eval(), VAE(CONFIG).eval()
    begun.init_from_pca(cars)
    components = principal_components(cars, CONFIG.latent_dim)
    small = half_size(torch.from_numpy(other_cars)).flatten(1)
    linear = (small - components.mean) @ components.basis @ components.basis.T + components.mean
    enlarged = torch.nn.functional.interpolate(linear.view(-1, 3, 8, 12), scale_factor=2, mode="bilinear")
    images = to_float(torch.from_numpy(other_cars))
    with torch.inference_mode():
        decoded = [model.decoder(model.encoder(images).mean) for model in (begun, random)]
    quality = [decibels(reconstructions, images) for reconstructions in decoded]
    assert quality[0] > decibels(enlarged, images) - 2
    assert quality[0] > quality[1] + 3


def test_the_coordinates_of_images_have_unit_variance(cars: ImageArray) -> None:
    torch.manual_seed(0)
    model = VAE(CONFIG)
    model.init_from_pca(cars)
    small = half_size(torch.from_numpy(cars)).flatten(1)
    variance = model.encoder.linear(small).var(0)  # type: ignore[operator]
    torch.testing.assert_close(variance, torch.ones(6), rtol=0.2, atol=0)


def test_fewer_images_than_components_give_finite_weights(cars: ImageArray) -> None:
    model = VAE(dataclasses.replace(CONFIG, latent_dim=40)).eval()
    model.init_from_pca(cars[:5])
    posterior = model.encoder(to_float(torch.from_numpy(cars[:5])))
    assert posterior.mean.isfinite().all()
    assert model.decoder(posterior.mean).isfinite().all()


def test_the_linear_parameters_are_the_codec_alone() -> None:
    model = VAE(CONFIG)
    names = {
        name for name, value in model.named_parameters() if any(value is p for p in model.linear_parameters())
    }
    assert names == {
        "encoder.linear.weight",
        "encoder.linear.bias",
        "decoder.linear.weight",
        "decoder.linear.bias",
    }
    assert VAE(Recipe.load("tiny").model).linear_parameters() == []


def test_the_best_recipe_has_the_size_of_the_first() -> None:
    sizes = [parameter_count(VAE(Recipe.load(name).model)) for name in ("seed", "best")]
    assert sizes[1] <= sizes[0]


@pytest.mark.parametrize(
    "change",
    [{"width": 26}, {"latent_dim": 0}, {"channels": (8, 4)}, {"channels": (8, 8, 8)}, {"latent_dim": 1000}],
)
def test_impossible_sizes_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"model:"):
        dataclasses.replace(CONFIG, **change)  # type: ignore[arg-type]


def decibels(images: torch.Tensor, originals: torch.Tensor) -> float:
    grey_levels = [(batch.clamp(0, 1) * 255).round().byte() for batch in (originals, images)]
    return float(np.mean(psnr(*(batch.permute(0, 2, 3, 1).numpy() for batch in grey_levels))))
