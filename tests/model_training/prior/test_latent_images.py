import numpy as np
import torch

from model_training.prior import latent_images
from model_training.prior.latent_images import SmallPictures, places, principal_pictures, show


def test_pictures_of_coordinates_are_found_and_read_back() -> None:
    latents = torch.randn(400, 20, generator=torch.Generator().manual_seed(0))
    added = torch.rand(20, 4, 6, 3, generator=torch.Generator().manual_seed(1)) - 0.5
    coarse = torch.einsum("nl,lijc->nijc", latents, added)
    whole = (128 + 8 * coarse).repeat_interleave(4, 1).repeat_interleave(4, 2)
    picture = principal_pictures(latents, whole.round().to(torch.uint8).numpy())
    assert picture.shape == (20, 2, 3, latent_images.VALUES)
    trailing = SmallPictures(picture[5:])
    torch.testing.assert_close(
        trailing.read(trailing.show(latents[:, 5:])), latents[:, 5:], atol=1e-3, rtol=0
    )


def test_fewer_pictures_than_coordinates_give_no_wild_ones() -> None:
    latents = torch.randn(30, 40, generator=torch.Generator().manual_seed(0))
    pixels = np.random.default_rng(0).integers(0, 256, (30, 16, 24, 3), dtype=np.uint8)
    assert principal_pictures(latents, pixels).abs().max() < 1


def test_a_coordinate_is_shown_where_it_changes_the_picture() -> None:
    picture = torch.zeros(2, 3, 4, 1)
    picture[0, 0, 1], picture[1, 2, 3] = 0.2, 0.1
    pictures = SmallPictures(picture)
    shown = show(
        (pictures, torch.tensor([[1.0, 0.0]])), (pictures, torch.tensor([[0.0, 1.0]])), places((3, 4))
    )
    assert shown.shape == (1, 4, 3, 4)
    assert shown[0, :2].nonzero().tolist() == [[0, 0, 1], [1, 2, 3]]
    assert shown[0, 0, 0, 1] == 2 * shown[0, 1, 2, 3]
    np.testing.assert_allclose(shown[0, 2, :, 0], [-1, 0, 1])
    np.testing.assert_allclose(shown[0, 3, 0], [-1, -1 / 3, 1 / 3, 1], rtol=1e-6)
