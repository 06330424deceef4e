"""Fitting to a size: scaled like Pillow does it, the rest filled from the edges."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from app.images.letterbox import BORDER_BLUR, fit, resample, scale, size_inside
from tests.images import difference, photograph

WIDTH, HEIGHT = 96, 64


def test_the_border_continues_the_edges() -> None:
    tall = Image.new("RGB", (40, 64), "navy")
    assert (fit(tall, WIDTH, HEIGHT) == (0, 0, 128)).all()


@pytest.mark.parametrize("size", [(128, 128), (500, 333), (97, 40), (30, 20), (1, 7), (512, 2)])
def test_resampling_is_pillows(size: tuple[int, int]) -> None:
    image = photograph(*size)
    pillows = image.resize((60, 64), Image.Resampling.LANCZOS)
    assert difference(resample(np.asarray(image), 60, 64), np.asarray(pillows)) < 0.5


@pytest.mark.parametrize("size", [(64, 64), (17, 64), (1, 64), (95, 64), (96, 54), (96, 1)])
def test_the_border_is_pillows_blur_of_the_replicated_edge(size: tuple[int, int]) -> None:
    image = np.asarray(photograph(*size))
    width, height = size
    left, top = (WIDTH - width) // 2, (HEIGHT - height) // 2
    padded = np.pad(image, ((top, HEIGHT - height - top), (left, WIDTH - width - left), (0, 0)), mode="edge")
    pillows = np.array(Image.fromarray(padded).filter(ImageFilter.GaussianBlur(BORDER_BLUR)))
    pillows[top : top + height, left : left + width] = image
    assert np.abs(fit(Image.fromarray(image), WIDTH, HEIGHT).astype(int) - pillows).max() <= 1


@pytest.mark.parametrize(
    ("size", "inner"), [((900, 600), (96, 64)), ((600, 600), (64, 64)), ((900, 3), (96, 1))]
)
def test_the_size_inside_keeps_the_aspect(size: tuple[int, int], inner: tuple[int, int]) -> None:
    assert size_inside(size, WIDTH, HEIGHT) == inner


def test_an_image_that_fits_is_left_as_it_is() -> None:
    image = photograph(WIDTH, HEIGHT)
    assert scale(image, size_inside(image.size, WIDTH, HEIGHT)) is image
    assert np.array_equal(fit(image, WIDTH, HEIGHT), np.asarray(image))
