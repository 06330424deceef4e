"""Files made to break a decoder: each is read or refused, soon and cheaply."""

import struct
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from app.errors import ImageError, UnreadableImage, UnsupportedImage
from app.images.decode import FORMATS, read_image
from app.images.formats.jpeg import MAX_SCANS, START_OF_SCAN
from tests.app.robustness.hostile_images import BOMBS, Outcome, small
from tests.images import PNG_SIGNATURE, file_of, jpeg_of_scans, noise, photograph, png_chunk

WIDTH, HEIGHT = 96, 64
MAX_PIXELS = 64_000_000


def outcome(data: bytes) -> Outcome:
    """How reading ends; anything but an image or an ImageError fails the test."""
    try:
        image = read_image(data, WIDTH, HEIGHT, MAX_PIXELS)
    except ImageError as error:
        return type(error)
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert image.dtype == np.uint8
    return None


# truncation and damage


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_truncated_at_any_byte_is_read_or_refused(kind: str) -> None:
    whole = small(kind)
    seen = Counter(outcome(whole[:kept]) for kept in range(len(whole)))
    assert set(seen) <= {None, UnreadableImage, UnsupportedImage}
    assert seen[UnreadableImage] + seen[UnsupportedImage] > len(whole) // 3


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_with_any_byte_flipped_is_read_or_refused(kind: str) -> None:
    whole = small(kind)
    for place in range(0, len(whole), 1 + len(whole) // 400):
        outcome(whole[:place] + bytes((whole[place] ^ 0xFF,)) + whole[place + 1 :])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(FORMATS),
    cuts=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=9), st.integers(0, 9)), max_size=6),
)
def test_an_edited_file_is_read_or_refused(kind: str, cuts: list[tuple[float, bytes, int]]) -> None:
    data = small(kind)
    for place, inserted, removed in cuts:
        at = int(place * len(data))
        data = data[:at] + inserted + data[at + removed :]
    outcome(data)


@settings(max_examples=100, deadline=None)
@given(start=st.sampled_from([small(kind)[:16] for kind in FORMATS] + [b""]), rest=st.binary(max_size=300))
def test_noise_behind_a_signature_is_read_or_refused(start: bytes, rest: bytes) -> None:
    outcome(start + rest)


# formats that are refused, whose readers never run


@pytest.mark.parametrize(
    "kind",
    ["BLP", "DDS", "EPS", "ICNS", "ICO", "JPEG2000", "MSP", "PCX", "PDF", "PPM", "QOI", "SGI", "TGA"],
)
def test_formats_that_nobody_needs_are_unsupported(kind: str) -> None:
    image = photograph(64, 64)
    image = image.convert({"MSP": "1", "BLP": "P"}.get(kind, "RGB"))
    assert outcome(file_of(image, kind)) is UnsupportedImage


@pytest.mark.parametrize(
    "signature",
    [
        b"8BPS\0\1" + bytes(60),
        b"SIMPLE  =                    T" + bytes(60),
        b"\0\0\0\0\x11\xaf" + bytes(122),
        b"\xc5\xd0\xd3\xc6" + bytes(60),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"\xd7\xcd\xc6\x9a" + bytes(60),
        b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60),
        b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(60),
        b"\x00\x00\x02\x00" + bytes(60),
        b"GRIB" + bytes(60),
        b"BUFR" + bytes(60),
        b"\x89HDF\r\n\x1a\n" + bytes(60),
        b"PK\3\4" + bytes(60),
        b"\x1f\x8b\x08" + bytes(60),
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
        b"MZ" + bytes(60),
        b"\x7fELF" + bytes(60),
    ],
)
def test_signatures_of_other_files_are_unsupported(signature: bytes) -> None:
    assert outcome(signature) is UnsupportedImage


def test_other_plugins_are_not_even_imported() -> None:
    """Pillow imports every plugin it has when it is asked for a format that it does not know yet."""
    code = (
        "import sys\nfrom app.images.decode import read_image; from app.images.encode import encode_webp"
        "\nfrom tests.images import *"
        "\nfor kind in ('JPEG', 'WEBP', 'AVIF'): read_image(file_of(photograph(), kind), 9, 6, 10**6)"
        "\nencode_webp(read_image(file_of(photograph()), 9, 6, 10**6))"
        "\ntry: read_image(file_of(photograph())[1:], 9, 6, 10**6)\nexcept Exception: pass"
        "\nprint(sorted(name[4:-11] for name in sys.modules if name.startswith('PIL.') and 'Plugin' in name))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    # PPM comes with Pillow's basic ones, and MPO when a JPEG says that it is one; neither is asked for by us.
    assert set(eval(told)) - {"Ppm", "Mpo"} == {"Avif", "Bmp", "Gif", "Jpeg", "Png", "Tiff", "WebP"}


@pytest.mark.parametrize(
    "tail", [b"<script>alert(1)</script>", b"PK\3\4" + bytes(500), b"%PDF-1.7\n", small("PNG")]
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF"])
def test_polyglots_are_what_they_start_with(kind: str, tail: bytes) -> None:
    whole = small(kind)
    assert np.array_equal(
        read_image(whole + tail, WIDTH, HEIGHT, MAX_PIXELS), read_image(whole, WIDTH, HEIGHT, MAX_PIXELS)
    )
    if not tail.startswith(PNG_SIGNATURE):
        assert outcome(tail + whole) is UnsupportedImage


# bombs


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_or_read_at_the_price_of_their_image(name: str) -> None:
    """Each of these took between one and sixty seconds, or a gigabyte and more, of Pillow on its own."""
    make, expected = BOMBS[name]
    assert outcome(make()) is expected


def test_what_stands_behind_a_jpeg_is_not_counted() -> None:
    """Motion photos have their film there: bytes of any value."""
    film = np.random.RandomState(0).bytes(12_000_000)
    assert film.count(bytes((0xFF, START_OF_SCAN))) > 2 * MAX_SCANS
    for options in ({}, {"progressive": True}):
        whole = file_of(photograph(900, 600), "JPEG", **options)
        assert outcome(whole + film) is None


def test_scans_of_honest_jpegs_are_read() -> None:
    assert outcome(jpeg_of_scans(MAX_SCANS)) is None
    for options in ({"progressive": True}, {"progressive": True, "subsampling": 0}):
        whole = file_of(photograph(900, 600).convert("CMYK"), "JPEG", **options)
        assert whole.count(bytes((0xFF, START_OF_SCAN))) < MAX_SCANS / 3
        assert outcome(whole) is None


def test_a_png_in_small_chunks_is_read() -> None:
    rows = np.concatenate([np.zeros((900, 1), np.uint8), noise(900, 1200, seed=0).reshape(900, -1)], axis=1)
    data = zlib.compress(rows.tobytes(), 1)
    chunks = b"".join(png_chunk(b"IDAT", data[at : at + 1024]) for at in range(0, len(data), 1024))
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 1200, 900, 8, 2, 0, 0, 0))
    assert outcome(PNG_SIGNATURE + header + chunks + png_chunk(b"IEND", b"")) is None


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_thousands_of_frames_cost_as_much_as_one(kind: str) -> None:
    frames = [Image.new("L", (8, 6), shade % 256) for shade in range(3000)]
    assert outcome(file_of(frames[0], kind, save_all=True, append_images=frames[1:])) is None


# images that are odd and fine


def odd_images() -> Iterator[tuple[str, bytes]]:
    grey = np.asarray(photograph().convert("L"))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    yield "16-bit PNG", file_of(Image.fromarray(grey.astype(np.uint16) * 257))
    yield "16-bit TIFF", file_of(Image.fromarray(grey.astype(np.uint16) * 257), "TIFF")
    yield "float TIFF", file_of(photograph().convert("F"), "TIFF")
    yield "32-bit TIFF", file_of(photograph().convert("I"), "TIFF")
    yield "CMYK JPEG", file_of(photograph().convert("CMYK"), "JPEG")
    yield "CMYK TIFF", file_of(photograph().convert("CMYK"), "TIFF")
    yield "palette with alpha", file_of(photograph().quantize(9), "PNG", transparency=bytes(range(9)))
    yield "one bit", file_of(photograph().convert("1"), "PNG")
    yield "interlaced GIF", file_of(photograph().quantize(9), "GIF", interlace=True)
    yield "progressive JPEG", file_of(photograph(), "JPEG", progressive=True)
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
        yield f"{kind} with a profile", file_of(photograph(), kind, icc_profile=profile)
        yield f"{kind} with a broken profile", file_of(photograph(), kind, icc_profile=b"no profile")
        if kind != "AVIF":
            yield (
                f"{kind} with broken EXIF",
                file_of(photograph(), kind, exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
            )
    yield (
        "several images in one JPEG",
        file_of(photograph(), "MPO", save_all=True, append_images=[photograph(seed=1)]),
    )
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield f"TIFF {compression}", file_of(photograph(), "TIFF", compression=compression)
    header = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 1)
    passes = ((1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4))
    rows = b"".join(b"\0" + bytes(width) for width, height in passes for _ in range(height))
    yield (
        "interlaced PNG",
        (
            PNG_SIGNATURE
            + png_chunk(b"IHDR", header)
            + png_chunk(b"IDAT", zlib.compress(rows))
            + png_chunk(b"IEND", b"")
        ),
    )


@pytest.mark.parametrize(("name", "data"), list(odd_images()))
def test_odd_images_are_read(name: str, data: bytes) -> None:
    assert outcome(data) is None, name


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_orientations_that_do_not_exist_are_ignored(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert outcome(file_of(photograph(), "JPEG", exif=exif)) is None
