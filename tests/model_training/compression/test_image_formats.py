"""Rate-distortion curves of image formats: rising, of whole and of bare files, without what is beaten."""

import io

import pytest
from PIL import Image

from app.images.arrays import ImageArray
from model_training.compression.image_formats import FORMATS, ImageFormat, format_curves


@pytest.mark.parametrize("image_format", FORMATS, ids=lambda one: one.name)
def test_more_bytes_of_a_format_mean_a_better_image(image_format: ImageFormat, cars: ImageArray) -> None:
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
