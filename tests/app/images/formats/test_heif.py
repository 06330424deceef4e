"""HEIF and AVIF: what the boxes announce."""

import numpy as np
import pytest
from PIL import Image

from app.errors import ImageTooLarge, UnreadableImage
from app.images.formats.heif import MAX_BOXES, is_heif, open_heif, read_structure
from tests.heic import CONFIGURATION, SIDE, box, heic, mirrored, profile, rotated
from tests.images import difference, file_of, photograph

LIMIT = 10**7


def test_brands_tell_the_kind() -> None:
    assert is_heif(heic())
    assert is_heif(file_of(photograph(), "AVIF"))
    assert not is_heif(b"\0\0\0\x18ftypisom" + bytes(20))
    assert open_heif(heic(), LIMIT, LIMIT).format == "HEIF"
    assert open_heif(file_of(photograph(), "AVIF"), LIMIT, LIMIT).format == "AVIF"


@pytest.mark.parametrize("brand", [b"mif1", b"msf1"])
def test_a_neutral_brand_leaves_the_kind_to_the_coding(brand: bytes) -> None:
    for data, kind in ((heic(), "HEIF"), (file_of(photograph(), "AVIF"), "AVIF")):
        assert open_heif(data[:8] + brand + data[12:], LIMIT, LIMIT).format == kind


def test_announced_and_coded_sizes_are_read() -> None:
    structure = read_structure(heic(size=(300, 200)))
    assert structure.sizes == [(300, 200)]
    assert structure.coded_sizes == [(SIDE, SIDE)]


@pytest.mark.parametrize("size", [(30_000, 30_000), (70_000, 1)])
def test_the_size_is_checked_before_anything_is_decoded(size: tuple[int, int]) -> None:
    with pytest.raises(ImageTooLarge):
        open_heif(heic(size=size), LIMIT, LIMIT)


def test_a_coded_image_larger_than_announced_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(ImageTooLarge):
        open_heif(heic(), LIMIT, SIDE * SIDE // 2 - 1)
    data = heic(size=(8, 8))
    with pytest.raises(ImageTooLarge):
        open_heif(data, LIMIT, 64)


def test_tiles_are_counted_together() -> None:
    data = heic(tiles=3)
    assert open_heif(data, LIMIT, 3 * SIDE * SIDE).size == (3 * SIDE, SIDE)
    structure = read_structure(data)
    assert len(structure.derived) == 3


def test_too_many_boxes_are_refused() -> None:
    start = heic()
    with pytest.raises(UnreadableImage, match="pieces"):
        read_structure(start + box(b"uuid") * MAX_BOXES)


@pytest.mark.parametrize("cut", range(24, 300, 9))
def test_a_header_cut_anywhere_is_damaged_or_holds_no_image(cut: int) -> None:
    data = heic()
    with pytest.raises((UnreadableImage, SyntaxError, ValueError, IndexError)):
        open_heif(data[:cut], LIMIT, LIMIT).load()


@pytest.mark.parametrize(
    ("properties", "upright"),
    [
        ((rotated(1),), Image.Transpose.ROTATE_90),
        ((mirrored(1),), Image.Transpose.FLIP_LEFT_RIGHT),
    ],
)
def test_an_image_is_turned_once_as_its_properties_say(
    properties: tuple[bytes, ...], upright: Image.Transpose
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    opened = open_heif(heic(*properties, exif=exif.tobytes()[6:]), LIMIT, LIMIT)
    assert opened.orientation == 1
    turned = np.asarray(photograph(SIDE, SIDE).transpose(upright))
    assert difference(np.asarray(opened.load()), turned) < 4


def test_exif_alone_turns_nothing() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    opened = open_heif(heic(exif=exif.tobytes()[6:]), LIMIT, LIMIT)
    assert opened.orientation == 1
    assert difference(np.asarray(opened.load()), np.asarray(photograph(SIDE, SIDE))) < 4


def test_the_profile_is_kept() -> None:
    assert open_heif(heic(profile(b"a profile")), LIMIT, LIMIT).profile == b"a profile"


def test_the_configuration_may_be_cut_anywhere() -> None:
    for cut in range(len(CONFIGURATION)):
        data = heic().replace(box(b"hvcC", CONFIGURATION), box(b"hvcC", CONFIGURATION[:cut]))
        try:
            read_structure(data)
        except UnreadableImage:
            continue
