"""Every layout of every format against what its samples mean, and against ImageMagick where it is
installed."""

import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.images.arrays import ImageArray
from app.images.decode import read_image
from tests.heic import heic, mirrored, rotated
from tests.image_files import (
    DEFLATE,
    GREY,
    GREY_ALPHA,
    PALETTE,
    RGB,
    RGB_ALPHA,
    Samples,
    animated_webp,
    bmp_of,
    gif_of,
    png_of,
    tiff_of,
)
from tests.images import difference, file_of, photograph

WIDTH, HEIGHT = 96, 64
MAX_PIXELS = 10**7
ALIKE = 2
"""Grey levels on average."""

COLOURS: Samples = np.asarray(photograph(WIDTH, HEIGHT)).astype(np.int64)
SHADES: Samples = np.asarray(photograph(WIDTH, HEIGHT).convert("L")).astype(np.int64)[..., None]
ALPHA: Samples = np.tile(np.linspace(0, 255, WIDTH).astype(np.int64), (HEIGHT, 1))[..., None]
OPAQUE = np.full_like(ALPHA, 255)
IMAGEMAGICK = shutil.which("convert-im6") or shutil.which("magick")

Case = tuple[str, bytes, NDArray[np.float64]]


def on_white(samples: Samples, alpha: Samples = OPAQUE, highest: int = 255) -> NDArray[np.float64]:
    """What samples from 0 to the highest mean, in grey levels, laid on white."""
    share = alpha / 255
    shown: NDArray[np.float64] = samples * (255 / highest) * share + 255 * (1 - share)
    return np.broadcast_to(shown, (HEIGHT, WIDTH, 3))


def pngs() -> Iterator[Case]:
    for interlaced in (False, True):
        word = "interlaced " if interlaced else ""
        for depth in (1, 2, 4, 8, 16):
            highest = 2**depth - 1
            grey = SHADES * highest // 255
            key = int(grey[30, 40, 0])
            keyed = struct.pack(">H", key)
            plain = on_white(grey, highest=highest)
            yield f"{word}grey {depth}", png_of(grey, depth, GREY, interlaced=interlaced), plain
            yield (
                f"{word}grey {depth} with a key",
                png_of(grey, depth, GREY, transparency=keyed, interlaced=interlaced),
                on_white(grey, np.where(grey == key, 0, 255), highest),
            )
        yield (
            f"{word}grey 16 with a key that no pixel has",
            png_of(SHADES * 257, 16, GREY, transparency=struct.pack(">H", 258), interlaced=interlaced),
            on_white(SHADES),
        )
        for depth, factor in ((8, 1), (16, 257)):
            colours = COLOURS * factor
            key_colour = colours[30, 40]
            matches = (colours == key_colour).all(axis=-1, keepdims=True)
            for name, key_bytes, alpha in (
                ("", b"", OPAQUE),
                (" with a key", struct.pack(">HHH", *key_colour), np.where(matches, 0, 255)),
                (" with a key beside it", struct.pack(">HHH", *(key_colour ^ 1)), OPAQUE),
            ):
                if depth == 8 and name.endswith("beside it"):
                    continue
                yield (
                    f"{word}RGB {depth}{name}",
                    png_of(colours, depth, RGB, transparency=key_bytes, interlaced=interlaced),
                    on_white(COLOURS, alpha),
                )
            yield (
                f"{word}grey and alpha {depth}",
                png_of(
                    np.concatenate([SHADES, ALPHA], -1) * factor, depth, GREY_ALPHA, interlaced=interlaced
                ),
                on_white(SHADES, ALPHA),
            )
            yield (
                f"{word}RGBA {depth}",
                png_of(
                    np.concatenate([COLOURS, ALPHA], -1) * factor, depth, RGB_ALPHA, interlaced=interlaced
                ),
                on_white(COLOURS, ALPHA),
            )
        for depth in (1, 2, 4, 8):
            palette = np.random.RandomState(depth).randint(0, 256, (2**depth, 4))
            index = SHADES[..., 0] * (2**depth - 1) // 255
            entries = palette[:, :3].astype(np.uint8).tobytes()
            for alphas in (b"", palette[: 2 ** (depth - 1), 3].astype(np.uint8).tobytes(), b"\0"):
                table = np.full(2**depth, 255)
                table[: len(alphas)] = list(alphas)
                yield (
                    f"{word}palette {depth} with {len(alphas)} alphas",
                    png_of(
                        index[..., None],
                        depth,
                        PALETTE,
                        palette=entries,
                        transparency=alphas,
                        interlaced=interlaced,
                    ),
                    on_white(palette[index, :3], table[index][..., None]),
                )


def tiffs() -> Iterator[Case]:
    for order in "<>":
        for compression in (1, DEFLATE):
            options: dict[str, Any] = {"order": order, "compression": compression}
            word = f"{order} {'packed ' if compression == DEFLATE else ''}"
            for depth in (1, 4, 8, 16, 32):
                grey = SHADES * (2**depth - 1) // 255
                plain = on_white(grey, highest=2**depth - 1)
                yield f"{word}white is 0, {depth}", tiff_of(grey, depth, 0, **options), 255 - plain
                yield f"{word}black is 0, {depth}", tiff_of(grey, depth, 1, **options), plain
            floats = SHADES / 255
            yield f"{word}float, white is 0", tiff_of(floats, 32, 0, **options), 255 - on_white(SHADES)
            yield f"{word}float", tiff_of(floats, 32, 1, **options), on_white(SHADES)
            cmyk = np.asarray(photograph(WIDTH, HEIGHT).convert("CMYK")).astype(np.int64)
            for separate in (False, True):
                also = f"{word}{'separate ' if separate else ''}"
                both = options | {"separate": separate}
                for depth, factor in ((8, 1), (16, 257)):
                    yield f"{also}RGB {depth}", tiff_of(COLOURS * factor, depth, 2, **both), on_white(COLOURS)
                    for photometric in (0, 1):
                        shades = SHADES if photometric else 255 - SHADES
                        yield (
                            f"{also}{photometric} grey and alpha {depth}",
                            tiff_of(
                                np.concatenate([shades, ALPHA], -1) * factor,
                                depth,
                                photometric,
                                fields={338: [2]},
                                **both,
                            ),
                            on_white(SHADES, ALPHA),
                        )
                for extra, painted in ((0, COLOURS), (1, COLOURS * ALPHA // 255), (2, COLOURS)):
                    yield (
                        f"{also}RGB with extra {extra}",
                        tiff_of(np.concatenate([painted, ALPHA], -1), 8, 2, fields={338: [extra]}, **both),
                        on_white(COLOURS, ALPHA if extra else OPAQUE),
                    )
                yield f"{also}CMYK", tiff_of(cmyk, 8, 5, **both), on_white(COLOURS)
            yield (
                f"{word}grey with alpha in it",
                tiff_of(
                    np.concatenate([SHADES * ALPHA // 255, ALPHA], -1), 8, 1, fields={338: [1]}, **options
                ),
                on_white(SHADES, ALPHA),
            )
            ycc = np.asarray(photograph(WIDTH, HEIGHT).convert("YCbCr")).astype(np.int64)
            yield f"{word}YCbCr", tiff_of(ycc, 8, 6, fields={530: [1, 1]}, **options), on_white(COLOURS)
            for depth in (1, 4, 8):
                palette = np.random.RandomState(depth).randint(0, 256, (3, 2**depth))
                index = SHADES * (2**depth - 1) // 255
                yield (
                    f"{word}palette {depth}",
                    tiff_of(index, depth, 3, fields={320: (palette * 257).ravel().tolist()}, **options),
                    on_white(palette.T[index[..., 0]]),
                )
        for depth, factor in ((8, 1), (16, 257)):
            yield (
                f"{order} predicted RGB {depth}",
                tiff_of(COLOURS * factor, depth, 2, order=order, compression=DEFLATE, predictor=True),
                on_white(COLOURS),
            )


def bmps() -> Iterator[Case]:
    blue_first = COLOURS[..., ::-1]
    plain = on_white(COLOURS)
    yield "24", bmp_of(blue_first, 24), plain
    yield "24 from the top", bmp_of(blue_first, 24, top_down=True), plain
    yield "32 without alpha", bmp_of(np.concatenate([blue_first, ALPHA * 0], -1), 32), plain
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    for size in (108, 124):
        data = bmp_of(np.concatenate([blue_first, ALPHA], -1), 32, masks=masks, header_size=size)
        yield f"32 with alpha, header of {size}", data, on_white(COLOURS, ALPHA)
    five = COLOURS >> 3
    yield (
        "16",
        bmp_of(five[..., :1] << 10 | five[..., 1:2] << 5 | five[..., 2:], 16),
        on_white(five, highest=31),
    )
    six = five[..., :1] << 11 | (COLOURS[..., 1:2] >> 2) << 5 | five[..., 2:]
    yield "16 with masks", bmp_of(six, 16, masks=(0xF800, 0x7E0, 0x1F)), on_white(five, highest=31)
    for depth in (1, 4, 8):
        palette = np.random.RandomState(depth).randint(0, 256, (2**depth, 4))
        index = SHADES * (2**depth - 1) // 255
        data = bmp_of(index, depth, palette=palette.astype(np.uint8).tobytes())
        yield f"palette {depth}", data, on_white(palette[index[..., 0], 2::-1])


def frames() -> Iterator[Case]:
    """Frames smaller than their canvas, whose rest is transparent, and so white."""
    small = photograph(60, 40).quantize(32)
    canvas = np.full((HEIGHT, WIDTH, 3), 255)
    index = np.asarray(small)
    for disposal in range(4):
        for interlaced in (False, True):
            canvas[8:48, 12:72] = np.asarray(small.convert("RGB"))
            options: dict[str, Any] = {"disposal": disposal, "interlaced": interlaced}
            word = f"GIF, disposal {disposal}{', interlaced' if interlaced else ''}"
            yield word, gif_of(small, (WIDTH, HEIGHT), (12, 8), **options), on_white(canvas)
            keyed = canvas.copy()
            keyed[8:48, 12:72][index == 5] = 255
            yield (
                f"{word}, transparent",
                gif_of(small, (WIDTH, HEIGHT), (12, 8), transparent=5, **options),
                on_white(keyed),
            )
    canvas[8:48, 12:72] = np.asarray(photograph(60, 40))
    yield "WebP", animated_webp(photograph(60, 40), (WIDTH, HEIGHT), (12, 8)), on_white(canvas)


def heifs() -> Iterator[Case]:
    square = np.asarray(photograph(64, 64))
    for name, properties, array in (
        ("plain", (), square),
        ("turned once", (rotated(1),), np.rot90(square)),
        ("turned thrice", (rotated(3),), np.rot90(square, 3)),
        ("mirrored", (mirrored(1),), square[:, ::-1]),
    ):
        fitted = read_image(file_of(Image.fromarray(np.ascontiguousarray(array))), WIDTH, HEIGHT, MAX_PIXELS)
        yield name, heic(*properties), fitted.astype(float)


CASES = [
    pytest.param(data, expected, id=f"{kind} {name}")
    for kind, cases in (
        ("PNG", pngs()),
        ("TIFF", tiffs()),
        ("BMP", bmps()),
        ("frame", frames()),
        ("HEIC", heifs()),
    )
    for name, data, expected in cases
]
MISREAD_BY_IMAGEMAGICK = (
    "white is 0",
    "0 grey and alpha",
    "separate",
    "extra 0",
    "WebP",
    "HEIC",
    "32 without",
)
"""It takes numbers of 32 bits for black where they are white, planes of their own and samples of no kind for
alpha, and paints what a WebP frame leaves free."""


@pytest.mark.parametrize(("data", "expected"), CASES)
def test_every_layout_is_read_as_what_its_samples_mean(data: bytes, expected: NDArray[np.float64]) -> None:
    image = read_image(data, WIDTH, HEIGHT, MAX_PIXELS)
    assert np.abs(image - expected).mean() < (3 if data[4:8] == b"ftyp" else ALIKE)


@pytest.mark.skipif(IMAGEMAGICK is None, reason="ImageMagick is not installed")
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(case.values[0], id=case.id)
        for case in CASES
        if not any(word in str(case.id) for word in MISREAD_BY_IMAGEMAGICK)
    ],
)
def test_imagemagick_sees_the_same(data: bytes, tmp_path: Path) -> None:
    suffix = {b"\x89P": "png", b"II": "tif", b"MM": "tif", b"BM": "bmp", b"GI": "gif"}[data[:2]]
    source, target = tmp_path / f"image.{suffix}", tmp_path / "seen.png"
    source.write_bytes(data)
    options = (
        "-background",
        "white",
        "-colorspace",
        "sRGB",
        "-layers",
        "flatten",
        "-alpha",
        "off",
        "-depth",
        "8",
    )
    subprocess.run([str(IMAGEMAGICK), f"{source}[0]", *options, f"PNG24:{target}"], check=True)
    seen: ImageArray = np.asarray(Image.open(target).convert("RGB"))
    assert difference(read_image(data, WIDTH, HEIGHT, MAX_PIXELS), seen) < ALIKE
