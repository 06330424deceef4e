"""Rates: what is measured, kept as JSON."""

from pathlib import Path

import numpy as np
import pytest

from app.images.arrays import ImageArray
from model_training.compression.rate_distortion import Curve, Point, Rates, measured


def test_a_point_has_means_over_the_images(cars: ImageArray) -> None:
    off = np.clip(cars[:2].astype(int) + np.array([3, 6])[:, None, None, None], 0, 255).astype(np.uint8)
    point = measured("x", [10, 20], cars[:2], off)
    assert point.bytes == 15
    assert 33 < point.psnr < 37
    assert 0.9 < point.ssim <= 1
    assert 0.9 < point.ms_ssim <= 1


def test_rates_are_read_as_they_were_saved(tmp_path: Path) -> None:
    rates = Rates(3, [Curve("a", [Point("s", 1.5, 20.0, 0.5, 0.6)]), Curve("b", [], bare=True)])
    rates.save(tmp_path / "rates.json")
    assert Rates.load(tmp_path / "rates.json") == rates


@pytest.mark.parametrize("content", [None, "{}", "no"])
def test_what_is_no_rates_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "rates.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match="no rates in"):
        Rates.load(path)
