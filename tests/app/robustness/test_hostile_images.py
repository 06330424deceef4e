"""Files made to break a decoder, all generated here: each gets its answer, soon and cheaply."""

import asyncio
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from app.errors import ImageError, ImageTooLarge, UnreadableImage, UnsupportedImage
from app.images.decode import FORMATS, read_image, read_sized_image
from app.images.formats.jpeg import MAX_SCANS, START_OF_SCAN
from tests.app.api.requests import JPEG, check_problem, form, post_image
from tests.app.conftest import Serve
from tests.heic import heic
from tests.image_files import animated_webp, gif_of
from tests.images import PNG_SIGNATURE, announced_png, file_of, jpeg_of_scans, noise, photograph, png_chunk

WIDTH, HEIGHT = 96, 64
MAX_PIXELS = 64_000_000
MIB = 2**20

Outcome = type[ImageError] | None


def outcome(data: bytes) -> Outcome:
    """How reading ends; anything but an image or an ImageError fails the test."""
    try:
        image = read_image(data, WIDTH, HEIGHT, MAX_PIXELS)
    except ImageError as error:
        return type(error)
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert image.dtype == np.uint8
    return None


def png(width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 2) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(bytes(height * (1 + 3 * width))))
    return PNG_SIGNATURE + header + b"".join(chunks) + data + png_chunk(b"IEND", b"")


def tiff(fields: dict[int, tuple[int, int, int]], body: bytes = b"") -> bytes:
    """A little-endian TIFF of one directory: tag -> (type, count, value or offset)."""
    directory = b"".join(
        struct.pack("<HHII", tag, kind, count, value) for tag, (kind, count, value) in sorted(fields.items())
    )
    return b"II*\0" + struct.pack("<IH", 8, len(fields)) + directory + bytes(4) + body


def grey_tiff(
    width: int, height: int, more: dict[int, tuple[int, int, int]]
) -> dict[int, tuple[int, int, int]]:
    plain = {256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1)}
    return plain | {277: (3, 1, 1)} | more


def small(kind: str) -> bytes:
    image = photograph(8, 6)
    if kind == "HEIF":
        return heic()
    return file_of(image.quantize(16) if kind == "GIF" else image, kind)


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


JPEG_COMMENT = b"\xff\xfe\0\4\xff\xd9"


def gif_with(blocks: bytes) -> bytes:
    whole = small("GIF")
    at = 13 + 3 * 2 ** ((whole[10] & 7) + 1)
    return whole[:at] + blocks + whole[at:]


def announced_bmp(width: int, height: int, compression: int = 0, body: bytes = b"") -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, compression, len(body), 1, 1, 256, 256)
    return b"BM" + struct.pack("<IHHI", 1078 + len(body), 0, 0, 1078) + header + bytes(1024) + body


def announced_webp(width: int, height: int) -> bytes:
    whole = bytearray(file_of(photograph(8, 6), "WEBP", lossless=True))
    at = whole.index(b"VP8L") + 9
    whole[at : at + 4] = struct.pack("<I", (width - 1) | (height - 1) << 14)
    return bytes(whole)


def announced_avif(width: int, height: int) -> bytes:
    whole = file_of(photograph(64, 64), "AVIF")
    size = struct.pack(">II", 64, 64)
    return whole.replace(b"ispe\0\0\0\0" + size, b"ispe\0\0\0\0" + struct.pack(">II", width, height))


def announced_gif(width: int, height: int) -> bytes:
    whole = bytearray(small("GIF"))
    whole[6:10] = struct.pack("<HH", width, height)
    return bytes(whole)


def frame_of(side: int) -> bytes:
    """A GIF of a hundred bytes whose first frame is announced to be so large, and cleared behind it."""
    whole = bytearray(gif_of(photograph(8, 6).quantize(16), (8, 6), (0, 0), disposal=2))
    at = whole.index(b",\0\0\0\0") + 5
    whole[at : at + 4] = struct.pack("<HH", side, side)
    return bytes(whole)


def announced_jpeg(width: int, height: int) -> bytes:
    whole = bytearray(small("JPEG"))
    at = whole.index(b"\xff\xc0") + 5
    whole[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(whole)


BOMBS: dict[str, tuple[Callable[[], bytes], Outcome]] = {
    "PNG that announces 2.5 gigapixels": (lambda: announced_png(50_000, 50_000), ImageTooLarge),
    "PNG that announces 33 megapixels": (lambda: announced_png(5_750, 5_750), ImageTooLarge),
    "PNG that announces more than 32 bits": (lambda: announced_png(2**31 - 1, 2**31 - 1), ImageTooLarge),
    "JPEG that announces 4 gigapixels": (lambda: announced_jpeg(65_500, 65_500), ImageTooLarge),
    "GIF that announces 4 gigapixels": (lambda: announced_gif(65_535, 65_535), ImageTooLarge),
    "BMP that announces 10 gigapixels": (lambda: announced_bmp(100_000, 100_000), ImageTooLarge),
    "BMP of negative height": (lambda: announced_bmp(100_000, -100_000), ImageTooLarge),
    "WebP that announces 268 megapixels": (lambda: announced_webp(16_383, 16_383), ImageTooLarge),
    "AVIF that announces 900 megapixels": (lambda: announced_avif(30_000, 30_000), ImageTooLarge),
    "TIFF that announces 10 gigapixels": (
        lambda: tiff(grey_tiff(100_000, 100_000, {273: (4, 1, 8), 278: (4, 1, 9), 279: (4, 1, 9)})),
        ImageTooLarge,
    ),
    "TIFF of 30 million rows": (
        lambda: tiff(grey_tiff(1, 30_000_000, {273: (4, 1, 8), 278: (4, 1, 9), 279: (4, 1, 9)})),
        ImageTooLarge,
    ),
    "PNG of 65536 rows": (lambda: announced_png(1, 65_536), ImageTooLarge),
    "TIFF of one enormous tile": (
        lambda: tiff(
            grey_tiff(
                5000,
                5000,
                {259: (3, 1, 8), 322: (4, 1, 65_520), 323: (4, 1, 30_000), 324: (4, 1, 8), 325: (4, 1, 9)},
            )
        ),
        ImageTooLarge,
    ),
    "TIFF of millions of strips": (
        lambda: tiff(
            grey_tiff(1, 4_000_000, {273: (4, 4_000_000, 99), 278: (4, 1, 1), 279: (4, 4_000_000, 99)}),
            bytes(16 * MIB),
        ),
        UnreadableImage,
    ),
    "TIFF of a field of a million fractions": (
        lambda: tiff(grey_tiff(9, 9, {282: (5, 1_000_000, 300)}), bytes(8 * MIB)),
        UnreadableImage,
    ),
    "BigTIFF": (lambda: b"II+\0" + struct.pack("<HHQ", 8, 0, 16) + bytes(99), UnsupportedImage),
    "JPEG of 65 scans": (lambda: jpeg_of_scans(65), UnreadableImage),
    "JPEG of 65 scans behind a comment that looks like its end": (
        lambda: JPEG_COMMENT.join((jpeg_of_scans(65)[:2], jpeg_of_scans(65)[2:])),
        UnreadableImage,
    ),
    "JPEG of 65 scans with such comments between them": (
        lambda: jpeg_of_scans(65).replace(b"\xff\xda", JPEG_COMMENT + b"\xff\xda"),
        UnreadableImage,
    ),
    "JPEG of empty segments": (
        lambda: JPEG[:2] + b"\xff\xe5\0\2" * 200_000 + JPEG[2:],
        UnreadableImage,
    ),
    "JPEG of fill bytes": (lambda: JPEG[:2] + b"\xff" * 300_000 + JPEG[2:], None),
    "PNG of empty chunks": (lambda: png(9, 9, png_chunk(b"tIME", b"") * 110_000), UnreadableImage),
    "PNG whose profile unpacks to 200 MB": (
        lambda: png(9, 9, png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(200 * MIB), 9))),
        None,
    ),
    "PNG whose texts unpack to 100 MB": (
        lambda: png(
            9, 9, *(png_chunk(b"zTXt", b"%d\0\0" % n + zlib.compress(bytes(MIB))) for n in range(100))
        ),
        None,
    ),
    "GIF of comments": (lambda: gif_with(b"\x21\xfe\x01a\0" * 100_000), None),
    "GIF of one comment in crumbs": (
        lambda: gif_with(b"\x21\xfe" + b"\x01a" * 200_000 + b"\0"),
        UnreadableImage,
    ),
    "GIF of control blocks": (lambda: gif_with(b"\x21\xf9\4\0\0\0\0\0" * 100_000), None),
    "GIF whose first frame announces 4 gigapixels": (lambda: frame_of(65_000), ImageTooLarge),
    "GIF whose first frame lies far outside the screen": (
        lambda: gif_of(photograph(8, 6).quantize(16), (8, 6), (60_000, 60_000)),
        ImageTooLarge,
    ),
    "WebP animation on a canvas of 4 gigapixels": (
        lambda: animated_webp(photograph(8, 6), (65_000, 65_000), (0, 0)),
        ImageTooLarge,
    ),
    "HEIC that announces 900 megapixels": (lambda: heic(size=(30_000, 30_000)), ImageTooLarge),
    "HEIC coded larger than it says": (lambda: heic(size=(8, 8)), UnreadableImage),
    "BMP of runs of one": (
        lambda: announced_bmp(2000, 2000, 1, (b"\1A" * 2000 + b"\0\0") * 200),
        UnreadableImage,
    ),
}


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


# over HTTP


async def test_every_hostile_file_gets_its_answer_over_http(client: httpx.AsyncClient) -> None:
    corpus: list[bytes] = [make() for make, _ in BOMBS.values()]
    for kind in FORMATS:
        whole = small(kind)
        corpus += [whole[: len(whole) * part // 40] for part in range(40)]
    seen: Counter[int] = Counter()
    for data in corpus:
        answer = await post_image(client, "/encode", data)
        seen[answer.status_code] += 1
        if answer.status_code != 200:
            check_problem(answer, answer.status_code)
    assert set(seen) <= {200, 400, 413, 415}
    assert (await client.get("/health/ready")).status_code == 200


async def test_a_file_that_is_stuck_stops_no_other(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    release, real = threading.Event(), read_sized_image

    def read(data: bytes, width: int, height: int, max_pixels: int) -> object:
        if data == b"stuck":
            release.wait(timeout=60)
        return real(data, width, height, max_pixels)

    monkeypatch.setattr("app.api.inference_request.read_sized_image", read)
    async with serve(picture_threads=1, decode_timeout=0.1) as client:
        answer = await client.post("/encode", files=form(JPEG, b"stuck"))
        assert "image 2 of 2: it takes more than 0.1 s" in check_problem(answer, 400)["detail"]
        assert (await client.post("/encode", files=form(JPEG))).status_code == 200
        check_problem(await client.post("/encode", files=form(b"stuck")), 400)
        problem = check_problem(await client.get("/health/ready"), 503)
        assert "stuck" in problem["detail"]
        check_problem(await client.post("/encode", files=form(JPEG)), 503)
        release.set()
        deadline = time.monotonic() + 30
        while (await client.get("/health/ready")).status_code != 200:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        assert (await client.post("/encode", files=form(JPEG))).status_code == 200
