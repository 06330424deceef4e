"""Profiles: colours are converted by the one that is embedded, or left as they are."""

from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from app.images.arrays import ImageArray
from app.images.colour_profiles import CACHED, _transform, profile_mode, to_srgb
from app.images.decode import read_image
from tests.heic import SIDE, heic
from tests.heic import profile as profile_property
from tests.images import difference, file_of, photograph
from tests.profiles import ADOBE_RGB, DISPLAY_P3, SRGB, grey_profile, rgb_profile

WIDTH, HEIGHT = 96, 64
P3 = rgb_profile(DISPLAY_P3, 2.2)
ADOBE = rgb_profile(ADOBE_RGB, 2.2)
SRGB_BYTES = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def read(content: bytes) -> ImageArray:
    return read_image(content, WIDTH, HEIGHT, 10**8)


def by_hand(image: ImageArray, primaries: tuple[tuple[float, float, float], ...], gamma: float) -> ImageArray:
    """Colours of other primaries in sRGB, by the definitions (IEC 61966-2-1)."""
    light = (image / 255) ** gamma @ np.array(primaries) @ np.linalg.inv(np.array(SRGB))
    light = light.clip(0, 1)
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    levels: ImageArray = np.rint(255 * curve).astype(np.uint8)
    return levels


@pytest.mark.parametrize(("profile", "primaries"), [(P3, DISPLAY_P3), (ADOBE, ADOBE_RGB)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_format_is_converted_by_its_profile(profile: bytes, primaries: Any, kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {"quality": 96} if kind in ("JPEG", "AVIF") else {}
    image = photograph(WIDTH, HEIGHT)
    expected = by_hand(np.asarray(image), primaries, 2.2)
    assert difference(expected, np.asarray(image)) > 4
    assert difference(read(file_of(image, kind, icc_profile=profile, **options)), expected) < 2.5


def test_a_heic_is_converted_by_its_profile() -> None:
    expected = by_hand(read_image(heic(), SIDE, SIDE, 10**7), DISPLAY_P3, 2.2)
    assert difference(read_image(heic(profile_property(P3)), SIDE, SIDE, 10**7), expected) < 1.5


def test_converting_after_scaling_is_as_right_as_before() -> None:
    large = photograph(1200, 800)
    before = by_hand(np.asarray(large), DISPLAY_P3, 2.2)
    whole = read(file_of(Image.fromarray(before)))
    assert difference(read(file_of(large, icc_profile=P3)), whole) < 1


def test_alpha_is_kept_and_white_stays_white() -> None:
    image = photograph(WIDTH, HEIGHT)
    image.putalpha(Image.linear_gradient("L").resize((WIDTH, HEIGHT)))
    converted = to_srgb(image, P3)
    assert converted.mode == "RGBA"
    assert np.array_equal(np.asarray(converted)[..., 3], np.asarray(image)[..., 3])
    clear = Image.new("RGBA", (WIDTH, HEIGHT), (200, 0, 0, 0))
    assert (read(file_of(clear, icc_profile=P3)) == 255).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_grey_is_converted_by_a_profile_for_grey(kind: str) -> None:
    image = photograph(WIDTH, HEIGHT).convert("L")
    seen = read(file_of(image, kind, icc_profile=grey_profile(1.0)))
    light = np.asarray(image) / 255
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(seen - expected[..., None]).mean() < 2.5


def test_grey_with_a_profile_for_colours_stays_grey() -> None:
    seen = read(file_of(photograph().convert("L"), "JPEG", icc_profile=P3)).astype(int)
    assert np.abs(np.ptp(seen, axis=-1)).max() <= 2


def test_colours_are_left_alone_by_a_profile_for_something_else() -> None:
    image = photograph()
    for profile in (
        grey_profile(1.0),
        SRGB_BYTES.replace(b"RGB ", b"CMYK", 1),
        SRGB_BYTES.replace(b"RGB ", b"Lab ", 1),
    ):
        assert np.array_equal(read(file_of(image, icc_profile=profile)), read(file_of(image)))


@pytest.mark.parametrize(
    "profile",
    [
        b"",
        b"no profile",
        P3[:100],
        P3[:200],
        P3[:-60],
        P3[:128] + b"\xff" * 400,
        bytes(5000),
        P3.replace(b"acsp", b"gone"),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_broken_profile_is_ignored(profile: bytes, kind: str) -> None:
    image = photograph()
    with_profile, without = (read(file_of(image, kind, icc_profile=icc)) for icc in (profile, None))
    assert np.array_equal(with_profile, without)


@pytest.mark.parametrize("profile", [SRGB_BYTES, SRGB_BYTES + bytes(4)])
def test_srgb_itself_changes_nothing(profile: bytes) -> None:
    image = photograph()
    assert _transform(profile, False) is None
    assert np.array_equal(read(file_of(image, icc_profile=profile)), read(file_of(image)))


def test_few_transforms_are_kept() -> None:
    for number in range(CACHED + 9):
        to_srgb(photograph(4, 3), P3 + bytes(number))
    assert _transform.cache_info().currsize <= CACHED


def test_the_mode_of_a_profile_is_in_its_header() -> None:
    assert [profile_mode(profile) for profile in (P3, grey_profile(2.2), None, b"short")] == [
        "RGB",
        "L",
        None,
        None,
    ]


def test_cmyk_is_converted_by_pillow_where_no_profile_says_how() -> None:
    image = photograph().convert("CMYK")
    assert np.array_equal(np.asarray(to_srgb(image, P3)), np.asarray(image.convert("RGB")))
