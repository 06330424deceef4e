"""Rate-distortion curves of image formats: rising, of whole and of bare files, without what is beaten."""

import io

import pytest
from PIL import Image

from app.images.arrays import ImageArray
from app.images.other_formats.compare import blur_hashes, thumb_hashes
from model_training.compression.image_formats import FORMATS, ImageFormat, format_curves, hash_curve


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


def test_a_hash_has_a_point_for_each_length_that_every_image_has(cars: ImageArray) -> None:
    blurred = hash_curve("BlurHash", blur_hashes, cars[:3])
    assert blurred.points[0].setting == "20 bytes"
    assert all(point.bytes <= int(point.setting.split()[0]) for point in blurred.points)
    assert blurred.points[-1].psnr > blurred.points[0].psnr
    (only,) = hash_curve("ThumbHash", thumb_hashes, cars[:3]).points
    assert 18 <= only.bytes <= 25


def test_a_format_that_is_all_of_it_has_no_bare_curve(cars: ImageArray) -> None:
    def encode(image: Image.Image, level: int) -> tuple[bytes, int]:
        file = io.BytesIO()
        image.save(file, "PNG", compress_level=level)
        return file.getvalue(), len(file.getvalue())

    (curve,) = format_curves(ImageFormat("x", encode, [(1, 1)]), cars[:2])
    assert not curve.bare
