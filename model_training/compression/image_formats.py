"""Rate-distortion curves of image formats: JPEG, WebP and AVIF at their smallest files."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from app.images.arrays import ImageArray
from model_training.backends.onnx_backend import OnnxBackend
from model_training.compression.rate_distortion import Curve, Point, Rates, code_curve, measured
from model_training.compression.stored import open_codes


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
    return Rates(len(images), [codes, *(curve for one in FORMATS for curve in format_curves(one, images))])


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
    return [
        Curve(image_format.name, _unbeaten(whole)),
        Curve(f"{image_format.name}, bare", _unbeaten(bare), bare=True),
    ]


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
        _settings({0.25: (0, 10), 1 / 3: (0, 10, 30), 0.5: (0, 5, 10, 30), 1: (0, 5, 10, 20, 40)}),
    ),
    ImageFormat("AVIF", _avif, _settings({0.25: (0, 20), 0.5: (0, 10, 20, 30), 1: (0, 10, 20, 35)})),
)
