import math
from pathlib import Path

import numpy as np
import pytest

from app.images import Pixels
from model_training.codec import Floats, OnnxCodec
from model_training.evaluate import binary_cross_entropy, evaluate
from model_training.export import export
from model_training.torch_codec import TorchCodec


class Mirror:
    """A codec with two latent units, one of them dead, whose reconstructions are off by ten grey levels."""

    width, height, latent_dim = 24, 16, 2

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = pixels

    def encode(self, pixels: Pixels) -> tuple[Floats, Floats]:
        mean = np.zeros((len(pixels), 2), dtype=np.float32)
        mean[:, 0] = np.arange(len(pixels)) % 2 * 4 - 2
        return mean, np.zeros_like(mean)

    def decode(self, latents: Floats) -> Pixels:
        assert len(latents) == len(self.pixels)
        return np.where(self.pixels > 127, self.pixels - 10, self.pixels + 10).astype(np.uint8)


def test_figures_that_are_known(cars: Pixels) -> None:
    metrics = evaluate(Mirror(cars), cars)
    assert metrics["pictures"] == len(cars)
    assert metrics["psnr"] == pytest.approx(20 * math.log10(255 / 10))
    assert metrics["kl"] == pytest.approx(2.0)
    assert metrics["active_units"] == metrics["active_units_burda"] == 1
    assert 0.5 < metrics["ssim"] < 1


def test_cross_entropy_by_hand() -> None:
    black, white, grey = (np.full((1, 2, 2, 3), value, dtype=np.uint8) for value in (0, 255, 102))
    assert binary_cross_entropy(grey, grey)[0] == pytest.approx(
        -12 * (0.4 * math.log(0.4) + 0.6 * math.log(0.6))
    )
    assert binary_cross_entropy(black, black)[0] == pytest.approx(-12 * math.log(1 - 0.25 / 255))
    assert binary_cross_entropy(white, black)[0] == pytest.approx(-12 * math.log(0.25 / 255))


def test_torch_and_onnx_agree(run_folder: Path, other_cars: Pixels, tmp_path: Path) -> None:
    export(run_folder, tmp_path / "1", name="cars", version=1, pictures=other_cars, data={}, metrics={})
    trained, served = (
        evaluate(TorchCodec(run_folder), other_cars),
        evaluate(OnnxCodec(tmp_path / "1"), other_cars),
    )
    assert trained == pytest.approx(served, rel=1e-4)
    assert trained["psnr"] > 8
