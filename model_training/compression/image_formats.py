"""Rate-distortion curves of what else makes images small: formats at their smallest files, and hashes."""

import importlib
import importlib.util
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from app.images.arrays import ImageArray
from app.images.other_formats.compare import blur_hashes, thumb_hashes
from app.images.other_formats.files import ImageFile
from model_training.backends.onnx_backend import OnnxBackend
from model_training.compression.rate_distortion import Curve, Point, Rates, code_curve, measured
from model_training.compression.stored import open_codes

Best = Callable[[ImageArray, Sequence[int]], tuple[list[ImageFile | None], int]]
"""(height, width, 3) uint8 and budgets -> the best file under each, and the bytes of the smallest."""
HASH_BUDGETS = (20, 24, 28, 35, 48, 64, 94, 128, 192)


@dataclass(frozen=True)
class ImageFormat:
    """A common image format at its smallest files."""

    name: str
    encode: Callable[[Image.Image, int], tuple[bytes, int]]
    """An image at a quality -> the whole file, and the bytes of it that differ from image to image."""
    settings: Sequence[tuple[float, int]]
    """(scale, quality): below a format's own smallest files the image is scaled down, and up again."""


def compare(folder: Path, images: ImageArray) -> Rates:
    """The rates of a model's codes and of every format, on images that the model has not seen.

    Raises:
        ModelFolderError: the folder has no codes, or is damaged.
    """
    backend, (codec, post_filter) = OnnxBackend(folder), open_codes(folder)
    codes = code_curve(backend.manifest.id, codec, post_filter, backend, images)
    curves = [curve for one in image_formats() for curve in format_curves(one, images)]
    hashes = [hash_curve("BlurHash", blur_hashes, images), hash_curve("ThumbHash", thumb_hashes, images)]
    return Rates(len(images), [codes, *curves, *hashes])


def image_formats() -> tuple[ImageFormat, ...]:
    """Those that are measured: JPEG XL too where the package pillow-jxl-plugin is installed."""
    if importlib.util.find_spec("pillow_jxl") is None:
        return FORMATS
    importlib.import_module("pillow_jxl")  # which tells Pillow of the format
    return (*FORMATS, JPEG_XL)


def hash_curve(name: str, best: Best, images: ImageArray) -> Curve:
    """The best hashes of images (N, height, width, 3) uint8 under each of HASH_BUDGETS bytes."""
    found = [best(image, HASH_BUDGETS)[0] for image in tqdm(images, name)]
    points = []
    for index, budget in enumerate(HASH_BUDGETS):
        files = [each[index] for each in found]
        if all(file is not None for file in files):
            made = [file for file in files if file is not None]
            shown = np.stack([file.image for file in made])
            points.append(measured(f"{budget} bytes", [len(file.data) for file in made], images, shown))
    return Curve(name, _unbeaten(points))


def format_curves(image_format: ImageFormat, images: ImageArray) -> list[Curve]:
    """The whole files of a format, and the same files bare; of each, the settings no other one beats.

    Args:
        images: (N, height, width, 3) uint8.
    """
    whole, bare = [], []
    for scale, quality in image_format.settings:
        encoded = [image_format.encode(_scaled(image, scale), quality) for image in images]
        decoded = np.stack([_decoded(file, image) for (file, _), image in zip(encoded, images, strict=True)])
        setting = f"quality {quality} at scale {scale:g}"
        point = measured(setting, [len(file) for file, _ in encoded], images, decoded)
        whole.append(point)
        bare.append(replace(point, bytes=float(np.mean([size for _, size in encoded]))))
    curves = [Curve(image_format.name, _unbeaten(whole))]
    if bare != whole:
        curves.append(Curve(f"{image_format.name}, bare", _unbeaten(bare), bare=True))
    return curves


def _scaled(original: ImageArray, scale: float) -> Image.Image:
    image = Image.fromarray(original)
    size = round(image.width * scale), round(image.height * scale)
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)


def _decoded(file: bytes, original: ImageArray) -> ImageArray:
    height, width, _ = original.shape
    image = Image.open(io.BytesIO(file)).convert("RGB")
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def _unbeaten(points: list[Point]) -> list[Point]:
    """Those that are better than every one of fewer bytes."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (point.bytes, -point.psnr)):
        if not kept or point.psnr > kept[-1].psnr:
            kept.append(point)
    return kept


def _jpeg(image: Image.Image, quality: int) -> tuple[bytes, int]:
    """Bare is the scan under the standard's own Huffman tables; the whole file has tables made for it."""
    standard = _file(image, "JPEG", quality=quality)
    scan = standard.index(b"\xff\xda")
    header = int.from_bytes(standard[scan + 2 : scan + 4], "big")
    end_marker = 2
    bare = len(standard) - (scan + 2 + header) - end_marker
    return _file(image, "JPEG", quality=quality, optimize=True), bare


def _webp(image: Image.Image, quality: int) -> tuple[bytes, int]:
    """Bare is the VP8 frame without the RIFF container."""
    file = _file(image, "WEBP", quality=quality, method=6)
    return file, int.from_bytes(file[16:20], "little")


def _avif(image: Image.Image, quality: int) -> tuple[bytes, int]:
    """Bare is the AV1 data without the boxes of ISO 14496-12 around it.

    Speed 3: the slowest, 0, gives 0.1 dB more for the same bytes and takes five times as long.
    """
    file = _file(image, "AVIF", quality=quality, speed=3)
    box = file.index(b"mdat")
    return file, int.from_bytes(file[box - 4 : box], "big") - 8


def _jpeg_xl(image: Image.Image, quality: int) -> tuple[bytes, int]:
    """A codestream, which has no container to be bare of."""
    file = _file(image, "JXL", quality=quality, effort=9, num_threads=1)
    return file, len(file)


def _file(image: Image.Image, name: str, **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def _settings(qualities: dict[float, Sequence[int]]) -> list[tuple[float, int]]:
    return [(scale, quality) for scale, some in qualities.items() for quality in some]


FORMATS = (
    ImageFormat("JPEG", _jpeg, _settings({0.25: (1, 10, 25), 0.5: (1, 10, 25, 50), 1: (1, 5, 10, 20, 35)})),
    ImageFormat(
        "WebP",
        _webp,
        _settings(
            {
                1 / 6: (0, 10, 20, 30),
                0.25: (0, 10),
                1 / 3: (0, 10, 30),
                0.5: (0, 5, 10, 30),
                2 / 3: (0, 5, 10),
                1: (0, 5, 10, 20, 40),
            }
        ),
    ),
    ImageFormat("AVIF", _avif, _settings({0.25: (0, 20), 0.5: (0, 10, 20, 30), 1: (0, 10, 20, 35)})),
)
JPEG_XL = ImageFormat(
    "JPEG XL",
    _jpeg_xl,
    _settings(
        {
            1 / 6: (1, 10, 20, 40),
            0.25: (1, 20, 40),
            1 / 3: (1, 20, 40),
            0.5: (1, 10, 25, 40),
            2 / 3: (10, 25),
            1: (1, 10, 30, 50),
        }
    ),
)
