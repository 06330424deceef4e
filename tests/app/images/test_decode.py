"""Every format, mode, orientation and kind of damage."""

import subprocess
import sys
import warnings
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from app.errors import ImageTooLarge, UnreadableImage, UnsupportedImage
from app.images.arrays import ImageArray
from app.images.decode import FORMATS, TRANSPOSITIONS, configure_pillow, read_image
from app.images.letterbox import fit
from tests.images import announced_png, difference, file_of, noise, opened, photograph

WIDTH, HEIGHT = 96, 64
MAX_PIXELS = 1_000_000
ORIENTATION = 0x0112
PROCESS_WIDE = "(Image.MAX_IMAGE_PIXELS, AvifImagePlugin.DEFAULT_MAX_THREADS, tuple(warnings.filters))"


def read(content: bytes) -> ImageArray:
    return read_image(content, WIDTH, HEIGHT, MAX_PIXELS)


@pytest.fixture(scope="module")
def expected() -> ImageArray:
    return np.asarray(fit(photograph(), WIDTH, HEIGHT))


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_read(kind: str, expected: ImageArray) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    colours = photograph().quantize(256) if kind == "GIF" else photograph()
    image = read(file_of(colours, kind))
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert image.dtype == np.uint8
    assert difference(image, expected) < 4


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(kind: str, orientation: int, expected: ImageArray) -> None:
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


def test_a_jpeg_decoded_at_a_smaller_scale_keeps_its_look(expected: ImageArray) -> None:
    large = photograph().resize((900, 600), Image.Resampling.BICUBIC)
    assert difference(read(file_of(large, "JPEG", quality=95)), expected) < 3


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_mode_is_read(mode: str) -> None:
    image = photograph().convert(mode)
    kind = "TIFF" if mode == "CMYK" else "PNG"
    reference = np.asarray(fit(image.convert("RGB"), WIDTH, HEIGHT))
    assert difference(read(file_of(image, kind)), reference) < (20 if mode == "1" else 3)


def test_a_cmyk_jpeg_is_read_in_its_colours(expected: ImageArray) -> None:
    assert difference(read(file_of(photograph().convert("CMYK"), "JPEG", quality=95)), expected) < 8


def test_sixteen_bits_are_scaled_to_eight() -> None:
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
    image = Image.new(mode, (96, 64))
    transparency = (0, 0, 0) if mode == "RGB" else 0
    assert (read(file_of(image, "PNG", transparency=transparency)) == 255).all()


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_is_taken(kind: str, expected: ImageArray) -> None:
    frames = [photograph(), Image.new("RGB", (90, 60), "lime")]
    content = file_of(frames[0], kind, save_all=True, append_images=frames[1:])
    assert getattr(opened(content), "n_frames", 1) == 2
    assert difference(read(content), expected) < 4


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (97, 64), (96, 64), (2, 3)])
def test_any_shape_is_fitted(size: tuple[int, int]) -> None:
    assert read(file_of(photograph(*size))).shape == (HEIGHT, WIDTH, 3)


def test_an_empty_file_is_unreadable() -> None:
    with pytest.raises(UnreadableImage, match="empty"):
        read(b"")


@pytest.mark.parametrize("content", [b"\0", b"GIF", b"no image at all", b"%PDF-1.7 ...", b"<svg/>"])
def test_what_is_no_image_is_unsupported(content: bytes) -> None:
    with pytest.raises(UnsupportedImage, match="JPEG"):
        read(content)


def test_formats_beyond_the_list_stay_closed() -> None:
    with pytest.raises(UnsupportedImage):
        read(file_of(photograph(), "PPM"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused(kind: str, kept: float) -> None:
    content = file_of(Image.fromarray(noise(60, 90, seed=0)), kind)
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


def test_the_limit_is_on_pixels_and_inclusive() -> None:
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


@pytest.mark.parametrize("size", [(256, 256), (384, 260), (511, 768)])
def test_scaled_decoding_changes_less_than_a_grey_level(size: tuple[int, int]) -> None:
    content = file_of(photograph(*size), "JPEG", quality=90)
    assert difference(read(content), fit(opened(content).convert("RGB"), WIDTH, HEIGHT)) < 0.75


@settings(deadline=None)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1)),
    width=st.integers(1, 60),
    height=st.integers(1, 60),
    kind=st.sampled_from(("PNG", "BMP")),
)
def test_any_image_is_fitted_and_one_of_the_right_size_left_as_it_is(
    shape: tuple[int, int, int], width: int, height: int, kind: str
) -> None:
    original = noise(*shape)
    image = read_image(file_of(Image.fromarray(original), kind), width, height, MAX_PIXELS)
    assert image.shape == (height, width, 3)
    if shape[:2] == (height, width):
        assert np.array_equal(image, original)


def run(*lines: str) -> str:
    """What a program that knows of app.images.decode prints."""
    start = ("import warnings", "from PIL import AvifImagePlugin, Image")
    code = "\n".join((*start, *lines))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_changes_nothing_outside_the_room() -> None:
    lines = (
        "import importlib, numpy, pkgutil, app.images",  # NumPy sets filters of its own
        f"before = {PROCESS_WIDE}",
        "names = [module.name for module in pkgutil.iter_modules(app.images.__path__, 'app.images.')]",
        "for name in names: importlib.import_module(name)",
        f"print('app.images.decode' in names, before == {PROCESS_WIDE})",
    )
    assert run(*lines) == "True True\n"


def test_programs_configure_pillow_once_and_by_a_call() -> None:
    lines = (
        "from app.images.decode import configure_pillow",
        "configure_pillow()",
        "print(AvifImagePlugin.DEFAULT_MAX_THREADS, warnings.filters[0][0], Image.MAX_IMAGE_PIXELS)",
    )
    assert run(*lines) == "1 ignore None\n"


def test_an_avif_is_decoded_by_one_thread_once_pillow_is_configured() -> None:
    lines = (
        "from app.images.decode import configure_pillow, read_image",
        "from tests.images import file_of, photograph",
        "configure_pillow()",
        "asked, real = [], AvifImagePlugin._avif.AvifDecoder",
        "def decoder(data, codec, threads): asked.append(threads); return real(data, codec, threads)",
        "AvifImagePlugin._avif.AvifDecoder = decoder",
        "image = read_image(file_of(photograph(), 'AVIF'), 96, 64, 10**6)",
        "print(image.shape, asked)",
    )
    assert run(*lines) == "(64, 96, 3) [1]\n"


def test_images_beyond_pillows_own_limit_are_read_once_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    content = file_of(photograph(), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ImageTooLarge, match="more pixels than Pillow allows"):
        read(content)
    with warnings.catch_warnings():
        configure_pillow()
    assert read(content).shape == (HEIGHT, WIDTH, 3)
