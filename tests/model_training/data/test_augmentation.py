import torch
import torch.nn.functional as F

from app.images.arrays import ImageArray
from model_training.data.augmentation import BRIGHTNESS, TINT, augment
from model_training.torch_utils import to_float


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_same_seed_changes_images_alike_and_another_otherwise(cars: ImageArray) -> None:
    images = to_float(torch.from_numpy(cars[:8]))
    once, again = augment(images, generator()), augment(images, generator())
    torch.testing.assert_close(once, again, rtol=0, atol=0)
    assert not torch.equal(once, augment(images, generator(1)))
    assert not torch.equal(once[0], augment(images[:1].repeat(2, 1, 1, 1), generator())[1])


def test_images_stay_in_range_and_near_what_they_were(cars: ImageArray) -> None:
    images = to_float(torch.from_numpy(cars))
    changed = augment(images, generator())
    assert changed.shape == images.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    blurred, originals = (F.avg_pool2d(batch, 4).flatten(1) for batch in (changed, images))
    likeness = F.cosine_similarity(blurred - blurred.mean(0), originals - originals.mean(0))
    assert likeness.median() > 0.7


def test_a_plain_image_only_changes_its_colour() -> None:
    grey = torch.full((64, 3, 16, 24), 0.5)
    changed = augment(grey, generator())
    assert changed.amax((2, 3)).sub(changed.amin((2, 3))).max() < 1e-5
    shift = changed.mean((2, 3)) - 0.5
    assert 0.5 * TINT < shift.abs().max() <= 0.5 * TINT + BRIGHTNESS + 1e-6
