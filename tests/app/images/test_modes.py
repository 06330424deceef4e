"""Every mode that a decoder gives becomes one that scales."""

import numpy as np
import pytest
from PIL import Image, ImageCms

from app.images.modes import SIMPLE, grey_levels, simplified
from tests.images import difference, photograph

MODES = "1 L LA La P PA RGB RGBA RGBa RGBX CMYK YCbCr HSV I I;16 F LAB"


@pytest.mark.parametrize("mode", MODES.split())
def test_every_mode_becomes_a_simple_one(mode: str) -> None:
    assert simplified(Image.new(mode, (4, 3))).mode in SIMPLE


def test_alpha_that_is_multiplied_in_is_divided_out() -> None:
    bands = Image.new("L", (1, 1), 50), Image.new("L", (1, 1), 128)
    assert simplified(Image.merge("La", bands)).getpixel((0, 0)) == (99, 99, 99, 128)


def test_sixteen_bits_are_rounded_down_to_eight() -> None:
    deep = Image.fromarray(np.array([[0, 256, 257, 65_535]], np.uint16))
    assert np.asarray(simplified(deep)).tolist() == [[0, 0, 1, 255]]


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.0, 255.0], [0, 100, 255]),
        ([0, 257, 65_535], [0, 1, 255]),
        ([0, 2**31, 2**32 - 1], [0, 128, 255]),
        ([-1.0, float("nan"), 1.0], [0, 0, 255]),
        ([float("inf"), 0.0, 1.0], [0, 0, 255]),
    ],
)
def test_numbers_of_any_range_become_grey_levels(values: list[float], levels: list[int]) -> None:
    assert np.asarray(grey_levels(np.array([values]))).tolist() == [levels]


def test_lab_becomes_rgb() -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    converted = ImageCms.applyTransform(photograph(), ImageCms.buildTransform(srgb, lab, "RGB", "LAB"))
    assert converted is not None
    assert difference(np.asarray(simplified(converted)), np.asarray(photograph())) < 2
