"""Every format, mode, orientation and kind of damage."""

import subprocess
import sys
import warnings
from collections.abc import Iterator
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
from tests.heic import SIDE, heic
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


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "HEIF"])
def test_every_format_is_read(kind: str, expected: ImageArray) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    colours = photograph().quantize(256) if kind == "GIF" else photograph()
    image = read(file_of(colours, kind))
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert image.dtype == np.uint8
    assert difference(image, expected) < 4


def test_a_heic_is_read() -> None:
    square = read(file_of(photograph(SIDE, SIDE)))
    assert difference(read(heic()), square) < 4


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


@pytest.mark.parametrize(
    "start",
    [
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\x99\0\0\0WEBP",
        b"RIFF\x99\0\0\0WEBPVP8 ",
        b"GIF89a",
        b"BM",
        b"II*\0",
        b"MM\0*",
        b"\0\0\0\x1cftypavif",
        b"\0\0\0\x1cftypheic",
        b"\0\0\0\x1cftypmif1",
    ],
)
@pytest.mark.parametrize("rest", [b"", bytes(40), b"\xff" * 40])
def test_a_known_signature_before_a_damaged_header_is_damaged(start: bytes, rest: bytes) -> None:
    with pytest.raises(UnreadableImage, match="damaged"):
        read(start + rest)


def smooth_files() -> dict[str, bytes]:
    image = photograph(200, 150)
    files = {kind: file_of(image, kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "AVIF")}
    files |= {
        "progressive JPEG": file_of(image, "JPEG", progressive=True),
        "JPEG with restarts": file_of(image, "JPEG", restart_marker_blocks=4),
        "grey JPEG": file_of(image.convert("L"), "JPEG"),
        "CMYK JPEG": file_of(image.convert("CMYK"), "JPEG", subsampling=0),
        "lossless WebP": file_of(image, "WEBP", lossless=True),
        "GIF": file_of(image.quantize(64), "GIF", interlace=False),
        "interlaced GIF": file_of(image.quantize(64), "GIF", interlace=True),
        "HEIC": heic(),
    }
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        files[compression] = file_of(image, "TIFF", compression=compression)
    return files


@pytest.mark.parametrize("name", smooth_files())
def test_a_file_cut_at_any_tenth_is_refused_and_one_with_more_behind_it_read(name: str) -> None:
    content = smooth_files()[name]
    for tenth in range(1, 10):
        with pytest.raises(UnreadableImage, match=r"damaged|incomplete"):
            read(content[: len(content) * tenth // 10])
    assert np.array_equal(read(content + b"more" * 100), read(content))


def random_jpegs(count: int) -> Iterator[tuple[bytes, bytes]]:
    """The same photograph as PNG and as JPEG, of any size, orientation, subsampling and kind of scans."""
    random = np.random.RandomState(18)
    for seed in range(count):
        width, height = (int(2 ** random.uniform(6, 10.5)) for _ in range(2))
        image = photograph(width, height, seed)
        exif = Image.Exif()
        exif[ORIENTATION] = random.randint(1, 9)
        options = {"subsampling": random.randint(3), "progressive": bool(random.randint(2))}
        yield file_of(image, exif=exif), file_of(image, "JPEG", quality=96, exif=exif, **options)


def test_a_photograph_is_the_same_in_a_jpeg_and_in_a_png() -> None:
    apart = [
        difference(read_image(png, WIDTH, HEIGHT, 10**7), read_image(jpeg, WIDTH, HEIGHT, 10**7))
        for png, jpeg in random_jpegs(60)
    ]
    assert np.median(apart) < 0.6
    assert max(apart) < 2


@pytest.mark.parametrize("size", [(839, 545), (468, 197), (605, 306), (1756, 738)])
@pytest.mark.parametrize("orientation", [1, 5])
def test_sides_that_no_scale_divides_move_nothing(size: tuple[int, int], orientation: int) -> None:
    """With the box that draft() returns left out, these differ by up to eight grey levels."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stripes = Image.fromarray(np.tile(np.arange(size[0], dtype=np.uint8) * 2, (size[1], 1))).convert("RGB")
    jpeg = file_of(stripes, "JPEG", quality=100, subsampling=0, exif=exif)
    assert (
        difference(
            read_image(jpeg, WIDTH, HEIGHT, 10**7),
            read_image(file_of(stripes, exif=exif), WIDTH, HEIGHT, 10**7),
        )
        < 1
    )


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


@pytest.mark.parametrize("size", [(256, 256), (384, 260), (511, 768), (839, 545), (1923, 1081)])
@pytest.mark.parametrize("seed", range(4))
def test_scaled_decoding_changes_less_than_a_grey_level(size: tuple[int, int], seed: int) -> None:
    detail = photograph(*size, seed)
    detail.paste(
        Image.fromarray(noise(size[1] // 4, size[0] // 4, seed)).resize(size), mask=Image.new("L", size, 60)
    )
    content = file_of(detail, "JPEG", quality=90)
    whole = fit(opened(content).convert("RGB"), WIDTH, HEIGHT)
    assert difference(read_image(content, WIDTH, HEIGHT, 10**7), whole) < 1


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
    content = file_of(photograph(), "WEBP")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ImageTooLarge, match="more pixels than Pillow allows"):
        read(content)
    with warnings.catch_warnings():
        configure_pillow()
    assert read(content).shape == (HEIGHT, WIDTH, 3)
