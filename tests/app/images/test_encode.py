"""Pictures in: every format, mode, orientation and kind of damage. Pictures out: read again and compared."""

import io
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter, features

from app.errors import ImageTooLarge, UnreadableImage, UnsupportedImage
from app.images.arrays import ImageArray
from app.images.decode import FORMATS, TRANSPOSITIONS, read_image
from app.images.encode import encode_gif, encode_jpeg, encode_webp, enlarge, grid, scaled_size
from app.images.letterbox import BORDER_BLUR, fit, resample
from tests.images import announced_png, file_of, opened, photograph, pixels_of

WIDTH, HEIGHT = 96, 64
MAX_PIXELS = 1_000_000
ORIENTATION = 0x0112


def read(content: bytes) -> ImageArray:
    return read_image(content, WIDTH, HEIGHT, MAX_PIXELS)


def difference(one: ImageArray, other: ImageArray) -> float:
    """Mean absolute difference in grey levels."""
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


@pytest.fixture(scope="module")
def expected() -> ImageArray:
    return np.asarray(fit(photograph(), WIDTH, HEIGHT))


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_read(kind: str, expected: ImageArray) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    colours = photograph().quantize(256) if kind == "GIF" else photograph()
    picture = read(file_of(colours, kind))
    assert picture.shape == (HEIGHT, WIDTH, 3)
    assert picture.dtype == np.uint8
    assert difference(picture, expected) < 4


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_upright(kind: str, orientation: int, expected: ImageArray) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    turned = photograph()
    if orientation != 1:
        inverse = {
            Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270,
            Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90,
        }
        upright = TRANSPOSITIONS[orientation]
        turned = turned.transpose(inverse.get(upright, upright))
    assert difference(read(file_of(turned, kind, exif=exif)), expected) < 4


def test_large_jpeg_keeps_its_look(expected: ImageArray) -> None:
    """A JPEG is decoded at a smaller scale; that must not show."""
    large = photograph().resize((900, 600), Image.Resampling.BICUBIC)
    assert difference(read(file_of(large, "JPEG", quality=95)), expected) < 3


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_modes(mode: str) -> None:
    picture = photograph().convert(mode)
    kind = "TIFF" if mode == "CMYK" else "PNG"
    reference = np.asarray(fit(picture.convert("RGB"), WIDTH, HEIGHT))
    assert difference(read(file_of(picture, kind)), reference) < (20 if mode == "1" else 3)


def test_cmyk_jpeg(expected: ImageArray) -> None:
    assert difference(read(file_of(photograph().convert("CMYK"), "JPEG", quality=95)), expected) < 8


def test_sixteen_bits() -> None:
    grey = np.asarray(photograph().convert("L"))
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    assert difference(read(file_of(deep)), read(file_of(Image.fromarray(grey)))) < 1


def test_alpha_lies_on_white() -> None:
    clear = Image.new("RGBA", (96, 64), (0, 0, 0, 0))
    assert (read(file_of(clear)) == 255).all()
    half = Image.new("RGBA", (96, 64), (0, 0, 0, 128))
    assert np.abs(read(file_of(half)).astype(int) - 127).max() <= 1


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_transparent_colour_lies_on_white(mode: str) -> None:
    picture = Image.new(mode, (96, 64))
    transparency = (0, 0, 0) if mode == "RGB" else 0
    assert (read(file_of(picture, "PNG", transparency=transparency)) == 255).all()


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_first_frame_is_taken(kind: str, expected: ImageArray) -> None:
    frames = [photograph(), Image.new("RGB", (90, 60), "lime")]
    content = file_of(frames[0], kind, save_all=True, append_images=frames[1:])
    assert getattr(opened(content), "n_frames", 1) == 2
    assert difference(read(content), expected) < 4


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (97, 64), (96, 64), (2, 3)])
def test_any_shape_fits(size: tuple[int, int]) -> None:
    assert read(file_of(photograph(*size))).shape == (HEIGHT, WIDTH, 3)


def test_border_continues_the_edges() -> None:
    tall = Image.new("RGB", (40, 64), "navy")
    assert (read(file_of(tall)) == (0, 0, 128)).all()


def test_empty() -> None:
    with pytest.raises(UnreadableImage, match="empty"):
        read(b"")


@pytest.mark.parametrize("content", [b"\0", b"GIF", b"no picture at all", b"%PDF-1.7 ...", b"<svg/>"])
def test_not_a_picture(content: bytes) -> None:
    with pytest.raises(UnsupportedImage, match="JPEG"):
        read(content)


def test_formats_beyond_the_list_stay_closed() -> None:
    with pytest.raises(UnsupportedImage):
        read(file_of(photograph(), "PPM"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_truncated(kind: str, kept: float) -> None:
    noise = Image.fromarray(np.random.RandomState(0).randint(0, 256, (60, 90, 3), dtype=np.uint8))
    content = file_of(noise, kind)
    with pytest.raises((UnreadableImage, UnsupportedImage)):
        read(content[: int(len(content) * kept)])


@pytest.mark.parametrize("seed", range(40))
def test_damaged_bytes_never_raise_anything_else(seed: int) -> None:
    random = np.random.RandomState(seed)
    kind = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")[seed % 6]
    content = bytearray(file_of(photograph(), kind))
    for place in random.randint(0, len(content), 12):
        content[place] = random.randint(256)
    with suppress(UnreadableImage, UnsupportedImage, ImageTooLarge):
        assert read(bytes(content)).shape == (HEIGHT, WIDTH, 3)


def test_announced_pixels_are_refused_before_decoding() -> None:
    with pytest.raises(
        ImageTooLarge, match="50000 x 50000 pixels; at most 500000 pixels are allowed in a PNG"
    ):
        read(announced_png(50_000, 50_000))


def test_limit_is_on_pixels_and_inclusive() -> None:
    for kind, limit in (("JPEG", 5400), ("PNG", 10_800), ("TIFF", 10_800)):
        content = file_of(photograph(90, 60), kind)
        assert read_image(content, WIDTH, HEIGHT, limit).shape == (HEIGHT, WIDTH, 3)
        with pytest.raises(ImageTooLarge):
            read_image(content, WIDTH, HEIGHT, limit - 1)


def test_messages_tell_nothing_of_the_machine() -> None:
    for content in (b"x", announced_png(9, 9), announced_png(50_000, 50_000)):
        with pytest.raises((UnreadableImage, UnsupportedImage, ImageTooLarge)) as caught:
            read(content)
        assert not any(word in str(caught.value) for word in ("/", "PIL", "0x", "bytes"))


@pytest.mark.parametrize("size", [(128, 128), (500, 333), (97, 40), (30, 20), (1, 7), (512, 2)])
def test_resampling_is_pillows(size: tuple[int, int]) -> None:
    picture = photograph(*size)
    pillows = picture.resize((60, 64), Image.Resampling.LANCZOS)
    assert difference(resample(np.asarray(picture), 60, 64), np.asarray(pillows)) < 0.5


@pytest.mark.parametrize("size", [(64, 64), (17, 64), (1, 64), (95, 64), (96, 54), (96, 1)])
def test_border_is_pillows_blur_of_the_replicated_edge(size: tuple[int, int]) -> None:
    picture = np.asarray(photograph(*size))
    width, height = size
    left, top = (WIDTH - width) // 2, (HEIGHT - height) // 2
    padded = np.pad(
        picture, ((top, HEIGHT - height - top), (left, WIDTH - width - left), (0, 0)), mode="edge"
    )
    pillows = np.array(Image.fromarray(padded).filter(ImageFilter.GaussianBlur(BORDER_BLUR)))
    pillows[top : top + height, left : left + width] = picture
    assert np.abs(fit(Image.fromarray(picture), WIDTH, HEIGHT).astype(int) - pillows).max() <= 1


@pytest.mark.parametrize("size", [(256, 256), (384, 260), (511, 768)])
def test_scaled_decoding_changes_less_than_a_grey_level(size: tuple[int, int]) -> None:
    content = file_of(photograph(*size), "JPEG", quality=90)
    assert difference(read(content), fit(opened(content).convert("RGB"), WIDTH, HEIGHT)) < 0.75


@pytest.mark.parametrize(("encode", "kind"), [(encode_jpeg, "JPEG"), (encode_webp, "WEBP")])
def test_lossy_files_come_close(encode: object, kind: str) -> None:
    pixels = np.asarray(photograph())
    content = encode(pixels)  # type: ignore[operator]
    assert opened(content).format == kind
    assert difference(pixels_of(content), pixels) < 4


def test_gif_is_an_endless_animation() -> None:
    frames = [np.asarray(photograph(seed=seed)) for seed in range(3)]
    content = encode_gif(frames)
    with Image.open(io.BytesIO(content)) as image:
        assert image.info["loop"] == 0
        assert getattr(image, "n_frames", 1) == 3
        for number, frame in enumerate(frames):
            image.seek(number)
            assert image.info["duration"] > 0
            assert difference(np.asarray(image.convert("RGB")), frame) < 5  # three cars share 256 colours


@pytest.mark.parametrize(
    ("longer_edge", "size"), [(None, (96, 64)), (96, (96, 64)), (16, (16, 11)), (2048, (2048, 1365))]
)
def test_scaled_size(longer_edge: int | None, size: tuple[int, int]) -> None:
    assert scaled_size(96, 64, longer_edge) == size
    assert scaled_size(64, 96, longer_edge) == size[::-1]


def test_thin_pictures_keep_a_pixel() -> None:
    assert scaled_size(2000, 10, 16) == (16, 1)


def test_enlarge_is_smooth_and_leaves_native_pictures_alone() -> None:
    pixels = np.asarray(photograph())
    assert enlarge(pixels, None) is pixels
    assert enlarge(pixels, 90) is pixels
    large = enlarge(pixels, 360)
    assert large.shape == (240, 360, 3)
    assert difference(np.asarray(Image.fromarray(large).resize((90, 60))), pixels) < 2


def test_grid_of_one_is_the_picture() -> None:
    pixels = np.asarray(photograph())
    assert grid([pixels]) is pixels


@pytest.mark.parametrize(
    ("count", "rows", "columns"), [(2, 1, 2), (3, 2, 2), (5, 2, 3), (9, 3, 3), (12, 3, 4), (64, 8, 8)]
)
def test_grid_fills_rows_in_order(count: int, rows: int, columns: int) -> None:
    pictures = [np.full((2, 3, 3), number, np.uint8) for number in range(count)]
    sheet = grid(pictures)
    assert sheet.shape == (rows * 2, columns * 3, 3)
    cells = [sheet[2 * row, 3 * column, 0] for row in range(rows) for column in range(columns)]
    assert cells == [*range(count), *[255] * (rows * columns - count)]


def test_filmstrip_is_one_row() -> None:
    pictures = [np.full((2, 3, 3), number, np.uint8) for number in range(5)]
    assert grid(pictures, columns=5)[0, ::3, 0].tolist() == [0, 1, 2, 3, 4]


PIXELS = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))


def noise(shape: tuple[int, int, int]) -> ImageArray:
    height, width, seed = shape
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3), dtype=np.uint8)


@settings(deadline=None)
@given(
    shape=PIXELS, width=st.integers(1, 60), height=st.integers(1, 60), kind=st.sampled_from(("PNG", "BMP"))
)
def test_any_picture_fits(shape: tuple[int, int, int], width: int, height: int, kind: str) -> None:
    picture = read_image(file_of(Image.fromarray(noise(shape)), kind), width, height, MAX_PIXELS)
    assert picture.shape == (height, width, 3)
    if shape[:2] == (height, width):
        assert np.array_equal(picture, noise(shape))


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(16, 2048))
def test_scaled_sizes_keep_the_aspect(width: int, height: int, longer_edge: int) -> None:
    size = scaled_size(width, height, longer_edge)
    assert max(size) == longer_edge
    assert abs(size[0] * height - size[1] * width) <= max(width, height)
