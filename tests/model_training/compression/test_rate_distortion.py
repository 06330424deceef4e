import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.images.arrays import ImageArray
from model_training.backends.base import Floats
from model_training.compression.fit import training_statistics
from model_training.compression.image_formats import FORMATS, Curve, ImageFormat, format_curves
from model_training.compression.rate_distortion import Point, rate_distortion
from model_training.evaluation.plots import plot_rate_distortion

BLOCK = 4


class Blocks:
    """A backend whose latents are the mean colours of blocks, known to within about a grey level."""

    width, height = 24, 16
    latent_dim = (width // BLOCK) * (height // BLOCK) * 3

    def encode(self, pixels: ImageArray) -> tuple[Floats, Floats]:
        blocks = pixels.reshape(-1, self.height // BLOCK, BLOCK, self.width // BLOCK, BLOCK, 3)
        mean = blocks.mean(axis=(2, 4)).reshape(len(pixels), -1).astype(np.float32)
        return mean, np.zeros_like(mean)

    def decode(self, latents: Floats) -> ImageArray:
        blocks = latents.reshape(-1, self.height // BLOCK, self.width // BLOCK, 3)
        levels = np.clip(np.rint(blocks), 0, 255).astype(np.uint8)
        return levels.repeat(BLOCK, axis=1).repeat(BLOCK, axis=2)


def test_coarser_steps_take_fewer_bytes_and_lose_more(cars: ImageArray, other_cars: ImageArray) -> None:
    backend = Blocks()
    statistics, (latents, _) = training_statistics(backend, cars), backend.encode(other_cars)
    fine, middle, coarse = rate_distortion(backend, statistics, other_cars, latents, [0.5, 30, 120])
    assert fine.bytes > middle.bytes > coarse.bytes > 0
    assert fine.psnr > middle.psnr > coarse.psnr
    assert fine.ssim > coarse.ssim
    assert abs(fine.lost) < 0.1
    assert fine.psnr + fine.lost == pytest.approx(coarse.psnr + coarse.lost)
    assert fine.largest >= fine.bytes
    assert fine.step == 0.5


@pytest.mark.parametrize("image_format", FORMATS, ids=lambda one: one.name)
def test_the_formats_improve_with_their_bytes(image_format: ImageFormat, cars: ImageArray) -> None:
    whole, bare = format_curves(image_format, cars[:2])
    assert not whole.bare
    assert bare.bare
    for curve in (whole, bare):
        assert len(curve.points) >= 3
        assert all(
            a.bytes < b.bytes and a.psnr < b.psnr
            for a, b in zip(curve.points, curve.points[1:], strict=False)
        )
    assert 0 < bare.points[0].bytes < whole.points[0].bytes - 15
    assert whole.points[-1].psnr > 20


def test_settings_that_another_one_beats_are_left_out(cars: ImageArray) -> None:
    sizes = {1: 10, 2: 30, 3: 20}
    levels = {1: 4, 2: 16, 3: 64}

    def encode(image: Image.Image, quality: int) -> tuple[bytes, int]:
        file = io.BytesIO()
        image.quantize(levels[quality]).convert("RGB").save(file, "PNG")
        return file.getvalue().ljust(3000 + sizes[quality], b"\0"), sizes[quality]

    whole, bare = format_curves(ImageFormat("x", encode, [(1, 1), (1, 2), (1, 3)]), cars[:3])
    assert [point.setting for point in bare.points] == ["quality 1 at scale 1", "quality 3 at scale 1"]
    assert [point.bytes for point in bare.points] == [10, 20]
    assert [point.bytes for point in whole.points] == [3010, 3020]


def test_the_plot_shows_every_curve(tmp_path: Path) -> None:
    ours = Curve("ours", [Point("", 32, 18, 0.5), Point("", 64, 20, 0.6)])
    points = [Point("", 128, 17, 0.4), Point("", 700, 25, 0.8)]
    plot_rate_distortion(
        ours, [Curve("other", points), Curve("bare", points, bare=True)], tmp_path / "two.png"
    )
    plot_rate_distortion(ours, [], tmp_path / "one.png")
    blue, orange = (0x1F, 0x77, 0xB4), (0xFF, 0x7F, 0x0E)
    for name, colours in (("one", [blue]), ("two", [blue, orange])):
        with Image.open(tmp_path / f"{name}.png") as picture:
            pixels = np.asarray(picture.convert("RGB"))
        for half in np.array_split(pixels, 2, axis=1):
            seen = {colour for colour in (blue, orange) if (half == colour).all(axis=2).sum() > 50}
            assert seen == set(colours)
