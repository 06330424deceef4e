import numpy as np
import pytest

from app.images.other_formats import thumb_hash
from app.images.quality import psnr
from tests.app.images.other_formats.pictures import slopes

WIDE = "cf2812558c908787787878787887777894b006fb74"
SEEN = [
    [(0, 0, 50), (10, 0, 87), (93, 10, 133), (208, 39, 173)],
    [(5, 17, 0), (24, 43, 18), (118, 91, 52), (209, 108, 52)],
    [(0, 41, 0), (15, 84, 0), (95, 136, 0), (197, 178, 0)],
]
"""What the package thumbhash-python 1.0.1, a port of the first implementation, makes of WIDE."""


@pytest.mark.parametrize(
    ("size", "code"),
    [
        ((48, 32), WIDE),
        ((20, 40), "cf28124c0c90877787877887878794b006fb74"),
        ((40, 40), "cf28124f0c9087877877787878887787877848096bb04f07"),
    ],
)
def test_what_others_write_is_written(size: tuple[int, int], code: str) -> None:
    """By the same package."""
    assert thumb_hash.encode(slopes(*size)).hex() == code


def test_what_others_wrote_is_read_as_they_read_it() -> None:
    assert thumb_hash.decode(bytes.fromhex(WIDE), 4, 3).tolist() == np.array(SEEN).tolist()


@pytest.mark.parametrize("size", [(48, 32), (32, 48), (96, 4), (5, 64), (40, 40)])
def test_a_picture_comes_back_blurred(size: tuple[int, int]) -> None:
    width, height = size
    across, down = np.meshgrid(np.linspace(60, 180, width), np.linspace(200, 90, height))
    image = np.stack([across, down, (across + down) / 2], axis=2).astype(np.uint8)
    code = thumb_hash.encode(image)
    shown = thumb_hash.decode(code, width, height)
    assert 17 <= len(code) <= 25
    assert shown.shape == image.shape
    assert psnr(image[None], shown[None])[0] > 24


def test_a_flat_picture_comes_back() -> None:
    image = np.full((20, 30, 3), 120, np.uint8)
    shown = thumb_hash.decode(thumb_hash.encode(image), 30, 20)
    assert np.abs(shown.astype(int) - 120).max() <= 5
