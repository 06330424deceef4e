import dataclasses

import numpy as np
import torch

from model_training.prior.latent_images import (
    LatentImages,
    coordinate_grid,
    latent_image_basis,
    stack_images,
)
from model_training.prior_recipe import LatentImagesConfig

CONFIG = LatentImagesConfig()


def test_the_images_of_coordinates_are_found_and_read_back() -> None:
    latents = torch.randn(400, 20, generator=torch.Generator().manual_seed(0))
    added = torch.rand(20, 4, 6, 3, generator=torch.Generator().manual_seed(1)) - 0.5
    coarse = torch.einsum("nl,lijc->nijc", latents, added)
    whole = (128 + 8 * coarse).repeat_interleave(4, 1).repeat_interleave(4, 2)
    basis = latent_image_basis(latents, whole.round().to(torch.uint8).numpy(), CONFIG)
    assert basis.shape == (20, 2, 3, CONFIG.values)
    trailing = LatentImages(basis[5:])
    torch.testing.assert_close(
        trailing.from_image(trailing.to_image(latents[:, 5:])), latents[:, 5:], atol=1e-3, rtol=0
    )


def test_fewer_images_than_coordinates_give_no_wild_ones() -> None:
    latents = torch.randn(30, 40, generator=torch.Generator().manual_seed(0))
    images = np.random.default_rng(0).integers(0, 256, (30, 16, 24, 3), dtype=np.uint8)
    assert latent_image_basis(latents, images, CONFIG).abs().max() < 1


def test_cells_are_as_many_pixels_as_the_recipe_says() -> None:
    latents = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    images = np.random.default_rng(0).integers(0, 256, (30, 16, 24, 3), dtype=np.uint8)
    config = dataclasses.replace(CONFIG, cell=4, values=5)
    assert latent_image_basis(latents, images, config).shape == (4, 4, 6, 5)


def test_a_coordinate_is_shown_where_it_changes_the_image() -> None:
    basis = torch.zeros(2, 3, 4, 1)
    basis[0, 0, 1], basis[1, 2, 3] = 0.2, 0.1
    images = LatentImages(basis)
    shown = stack_images(
        (images, torch.tensor([[1.0, 0.0]])),
        (images, torch.tensor([[0.0, 1.0]])),
        coordinate_grid((3, 4)),
    )
    assert shown.shape == (1, 4, 3, 4)
    assert shown[0, :2].nonzero().tolist() == [[0, 0, 1], [1, 2, 3]]
    assert shown[0, 0, 0, 1] == 2 * shown[0, 1, 2, 3]
    np.testing.assert_allclose(shown[0, 2, :, 0], [-1, 0, 1])
    np.testing.assert_allclose(shown[0, 3, 0], [-1, -1 / 3, 1 / 3, 1], rtol=1e-6)
