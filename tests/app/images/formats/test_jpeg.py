"""JPEG: complete data is read whatever else is missing, cut data refused whatever mark is put behind it."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.errors import ImageTooLarge, UnreadableImage
from app.images.formats.jpeg import MAX_MARKERS, MAX_SCANS, open_jpeg, read_structure
from tests.images import file_of, jpeg_of_scans, noise, opened, photograph

LIMIT = 10**7
END = b"\xff\xd9"
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "progressive": {"progressive": True},
    "without subsampling": {"subsampling": 0},
    "with its own tables": {"optimize": True},
    "with restarts": {"restart_marker_blocks": 3},
    "progressive with restarts": {"restart_marker_blocks": 3, "progressive": True},
}


def load(data: bytes) -> Image.Image:
    return open_jpeg(data, LIMIT, LIMIT).load()


def jpeg(kind: str, mode: str = "RGB") -> bytes:
    return file_of(photograph(200, 150).convert(mode), "JPEG", quality=90, **KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_what_is_decoded_is_what_pillow_decodes(kind: str, mode: str) -> None:
    data = jpeg(kind, mode)
    assert np.array_equal(np.asarray(load(data)), np.asarray(opened(data)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [-1, -2])
def test_a_jpeg_that_lacks_only_its_end_mark_is_read(kind: str, kept: int) -> None:
    data = jpeg(kind)
    assert np.array_equal(np.asarray(load(data[:kept])), np.asarray(load(data)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tail", [b"", END, END + b"more", b"\xff" + END])
def test_a_jpeg_cut_in_its_data_is_refused(kind: str, tail: bytes) -> None:
    data = jpeg(kind)
    start = data.index(b"\xff\xda") + 14
    for cut in np.linspace(start, len(data) - 12, 60).astype(int):
        with pytest.raises(UnreadableImage, match=r"damaged|incomplete"):
            load(data[:cut] + tail)


@pytest.mark.parametrize("kept", range(1, 10))
def test_a_progressive_jpeg_without_its_later_scans_is_refused(kept: int) -> None:
    data = jpeg("progressive")
    scans = read_structure(data).scans
    assert len(scans) == 10
    with pytest.raises(UnreadableImage, match="scans of the JPEG are missing"):
        load(data[: scans[kept - 1].end] + END)


def test_a_jpeg_of_one_scan_for_each_colour_needs_them_all() -> None:
    """Each component of an image without subsampling is an image in grey of its own."""
    grey = [file_of(Image.fromarray(noise(40, 60, seed)[..., 0]), "JPEG", subsampling=0) for seed in range(3)]
    scans = [read_structure(one).scans[0] for one in grey]
    head = bytearray(grey[0][: scans[0].start - 10])
    frame = head.index(b"\xff\xc0")
    components = b"".join(bytes((number, 0x11, 0)) for number in (1, 2, 3))
    head[frame : frame + 13] = (
        b"\xff\xc0\0\x11\x08" + bytes(head[frame + 5 : frame + 9]) + b"\x03" + components
    )
    parts = [
        b"\xff\xda\0\x08\1" + bytes((number, 0, 0, 63, 0)) + one[scan.start : scan.end]
        for number, one, scan in zip((1, 2, 3), grey, scans, strict=True)
    ]
    assert load(bytes(head) + b"".join(parts) + END).size == (60, 40)
    assert load(bytes(head) + b"".join(parts)).size == (60, 40)
    with pytest.raises(UnreadableImage, match="scans"):
        load(bytes(head) + b"".join(parts[:2]) + END)
    with pytest.raises(UnreadableImage, match="incomplete"):
        load(bytes(head) + b"".join(parts)[:-40] + END)


@pytest.mark.parametrize(
    "segment",
    [
        b"\xff\xe1\0\x10Exif\0\0nothing!",
        b"\xff\xe1\0\x12Exif\0\0II*\0\xff\xff\xff\xff",
        b"\xff\xe2\0\x14ICC_PROFILE\0\1\2half",
        b"\xff\xe2\0\x0aMPF\0II*\0",
        b"\xff\xed\0\x14Photoshop 3.0\x008BIM",
        b"\xff\xee\0\x08Adobe\0",
        b"\xff\xe0\0\x07JFIF\0",
        b"\xff\xff\xff\xff",
    ],
)
def test_broken_segments_beside_the_image_are_passed_over(segment: bytes) -> None:
    data = jpeg("plain")
    assert load(data[:2] + segment + data[2:]).size == (200, 150)


def test_a_profile_is_put_together_from_its_parts() -> None:
    profile = np.random.RandomState(0).bytes(150_000)
    data = file_of(photograph(), "JPEG", icc_profile=profile)
    assert open_jpeg(data, LIMIT, LIMIT).profile == profile


def test_a_jpeg_may_have_as_many_scans_as_the_limit_and_no_more() -> None:
    read_structure(jpeg_of_scans(MAX_SCANS))
    with pytest.raises(UnreadableImage, match="more than 64 scans"):
        read_structure(jpeg_of_scans(MAX_SCANS + 1))


def test_scans_behind_the_end_of_a_jpeg_are_not_counted() -> None:
    read_structure(file_of(photograph(), "JPEG") + b"\xff\xda" * (2 * MAX_SCANS))


def test_a_jpeg_of_too_many_segments_is_refused() -> None:
    data = jpeg("plain")
    with pytest.raises(UnreadableImage, match="more than 10000 segments"):
        read_structure(data[:2] + b"\xff\xe5\0\2" * (MAX_MARKERS + 1) + data[2:])


def test_the_size_is_checked_before_anything_is_decoded() -> None:
    with pytest.raises(ImageTooLarge):
        open_jpeg(jpeg("plain"), 200 * 150 - 1, LIMIT)
