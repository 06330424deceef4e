import dataclasses

import pytest
import torch
import torch.nn.functional as F

from app.images.arrays import ImageArray
from model_training.networks import subpixel_vae
from model_training.networks.pca_vae import half_size, principal_components
from model_training.networks.subpixel_vae import CELL, SMALL_CELL, bilinear_weight
from model_training.networks.vae import VAE
from model_training.recipe import SubpixelVaeConfig
from model_training.torch_utils import to_float
from tests.model_training.conftest import SUBPIXEL_RECIPE

CONFIG = SUBPIXEL_RECIPE.model
assert isinstance(CONFIG, SubpixelVaeConfig)


def begun(images: ImageArray) -> VAE:
    torch.manual_seed(0)
    model = VAE(CONFIG)
    model.init_from_pca(images)
    return model.eval()


def test_the_decoder_begins_as_the_linear_codec_enlarged_bilinearly(cars: ImageArray) -> None:
    model, components = begun(cars), principal_components(cars, CONFIG.latent_dim)
    assert isinstance(model.decoder, subpixel_vae.Decoder)
    torch.nn.init.zeros_(model.decoder.correction.weight)
    latents = torch.randn(3, CONFIG.latent_dim)
    small = F.pixel_shuffle(model.decoder.linear(latents).view(3, *model.decoder.small), SMALL_CELL)
    offsets = small.flatten(1) - components.mean
    torch.testing.assert_close(offsets @ components.basis @ components.basis.T, offsets, atol=2e-2, rtol=0)
    lengths = (latents.square() @ components.variance).sqrt()
    torch.testing.assert_close(offsets.norm(dim=1), lengths, rtol=1e-2, atol=0)
    enlarged = F.interpolate(small, scale_factor=2, mode="bilinear")
    inner = (..., slice(1, -1), slice(1, -1))  # at the edges one repeats pixels, the other adds zeros
    torch.testing.assert_close(model.decoder(latents)[inner], enlarged[inner])


def test_the_enlarging_convolution_is_bilinear_interpolation() -> None:
    small = torch.rand(2, 3, 12, 16)
    cells = F.conv2d(F.pixel_unshuffle(small, SMALL_CELL), bilinear_weight(), padding=1)
    enlarged = F.pixel_shuffle(cells, CELL)
    expected = F.interpolate(small, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(enlarged[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])


def test_the_encoder_begins_near_the_principal_components(cars: ImageArray) -> None:
    model = begun(cars)
    assert isinstance(model.encoder, subpixel_vae.Encoder)
    images = torch.from_numpy(cars[:32])
    linear = model.encoder.linear(half_size(images).flatten(1))
    mean = model.encoder(to_float(images)).mean
    assert F.cosine_similarity(linear, mean).mean() > 0.9
    assert not torch.equal(linear, mean)


def test_the_convolutions_see_the_image_and_add_to_the_mean_alone(cars: ImageArray) -> None:
    model = begun(cars)
    images = to_float(torch.from_numpy(cars[:8]))
    before = model.encoder(images)
    assert isinstance(model.encoder, subpixel_vae.Encoder)
    torch.nn.init.zeros_(model.encoder.correction.weight)
    after = model.encoder(images)
    assert not torch.equal(before.mean, after.mean)
    torch.testing.assert_close(before.log_variance, after.log_variance, rtol=0, atol=0)


def test_the_linear_parameters_are_those_of_both_directions() -> None:
    model = VAE(CONFIG)
    linear = {id(parameter) for parameter in model.linear_parameters()}
    names = {name for name, value in model.named_parameters() if id(value) in linear}
    assert names == {
        f"{part}.linear.{kind}" for part in ("encoder", "decoder") for kind in ("weight", "bias")
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 28}, "multiples of 8"),
        ({"channels": 4}, "more channels than features"),
        ({"encoder_channels": (4, 8)}, "encoder_channels three"),
        ({"rank": 0}, "at least 1"),
        ({"latent_dim": 289}, "fewer values than latent_dim"),
    ],
)
def test_impossible_sizes_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **change)  # type: ignore[arg-type]
