"""WebP: sizes are known before libwebp is asked for anything."""

import pytest

from app.errors import ImageTooLarge, UnreadableImage
from app.images.formats.webp import is_webp, open_webp
from tests.image_files import animated_webp
from tests.images import file_of, photograph

LIMIT = 10**7


@pytest.mark.parametrize(
    "options", [{}, {"lossless": True}, {"save_all": True, "append_images": [photograph(seed=1)]}]
)
def test_size_and_canvas_are_read(options: dict[str, object]) -> None:
    data = file_of(photograph(), "WEBP", **options)
    assert is_webp(data)
    assert open_webp(data, LIMIT, LIMIT).size == (90, 60)


@pytest.mark.parametrize("canvas", [(65_000, 65_000), (16_000_000, 2), (4000, 4000)])
def test_the_canvas_is_checked_before_anything_is_decoded(canvas: tuple[int, int]) -> None:
    with pytest.raises(ImageTooLarge):
        open_webp(animated_webp(photograph(8, 6), canvas, (0, 0)), LIMIT, LIMIT)


def test_a_header_without_a_size_is_damaged() -> None:
    for rest in (b"", b"VP8 ", b"VP8X\x0a\0\0\0\0", b"none\4\0\0\0abcd"):
        with pytest.raises(UnreadableImage, match="damaged"):
            open_webp(b"RIFF\xff\0\0\0WEBP" + rest, LIMIT, LIMIT)


def test_what_the_first_frame_leaves_free_is_transparent() -> None:
    image = open_webp(animated_webp(photograph(60, 40), (96, 64), (12, 8)), LIMIT, LIMIT).load()
    assert image.mode == "RGBA"
    assert image.getchannel("A").getbbox() == (12, 8, 72, 48)
