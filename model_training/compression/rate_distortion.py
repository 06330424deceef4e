"""Rate-distortion curves: bytes against PSNR and SSIM, of codes and of whatever else makes images small."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError
from tqdm import tqdm

from app.codes.codec import CodeCodec, Filter
from app.codes.shape import shape_size
from app.codes.tables import Integers
from app.images.arrays import ImageArray
from app.images.quality import ms_ssim, psnr, ssim
from model_training.backends.base import RefiningBackend
from model_training.compression.shapes import find_shapes
from model_training.compression.stored import decode_one

BUDGETS = (20, 24, 35, 48, 64, 94, 128, 160, 192, 255, 320, 400)
"""Bytes that codes are measured at."""


@dataclass(frozen=True)
class Point:
    """One setting of a way to compress, on the same images as all others; means over the images."""

    setting: str
    bytes: float
    psnr: float
    """dB."""
    ssim: float
    ms_ssim: float


@dataclass(frozen=True)
class Curve:
    """The points of one way to compress, by rising bytes."""

    name: str
    points: Sequence[Point]
    bare: bool = False
    """Without what all files of one kind share, which flatters a format: nothing reads such files."""


@dataclass(frozen=True)
class Rates:
    """What was measured, for tables and plots."""

    images: int
    """How many the means are over."""
    curves: Sequence[Curve]
    """The first one is of codes."""

    def save(self, path: Path) -> None:
        """Write them as JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")

    @staticmethod
    def load(path: Path) -> "Rates":
        """Read what `save` wrote.

        Raises:
            ValueError: there is none, or something else.
        """
        try:
            return TypeAdapter(Rates).validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise ValueError(f"no rates in {path} ({error})") from error


def measured(setting: str, sizes: Sequence[int], images: ImageArray, decoded: ImageArray) -> Point:
    """The point of images (N, height, width, 3) uint8 and what came back of each in so many bytes."""
    quality = [float(np.mean(figure(images, decoded))) for figure in (psnr, ssim, ms_ssim)]
    return Point(setting, float(np.mean(sizes)), *quality)


def code_curve(
    name: str,
    codec: CodeCodec,
    post_filter: Filter | None,
    backend: RefiningBackend,
    images: ImageArray,
    budgets: Sequence[int] = BUDGETS,
) -> Curve:
    """Pack images into codes of each budget, unpack them and measure.

    Args:
        images: (N, height, width, 3) uint8, which the model has not seen.
    """
    sizes, pictures = through_codes(codec, post_filter, backend, images, budgets)
    points = [
        measured(f"{budget} bytes", sizes[row].tolist(), images, pictures[row])
        for row, budget in enumerate(budgets)
    ]
    return Curve(name, points)


def through_codes(
    codec: CodeCodec,
    post_filter: Filter | None,
    backend: RefiningBackend,
    images: ImageArray,
    budgets: Sequence[int],
) -> tuple[Integers, ImageArray]:
    """What is left of images (N, height, width, 3) uint8 in codes of each of B budgets.

    Returns:
        bytes of the codes (B, N), and their pictures (B, N, height, width, 3) uint8.
    """
    decode = decode_one(backend)
    encoded, _ = backend.encode(images)
    latents = backend.refine(images, encoded)
    sizes = np.zeros((len(budgets), len(images)), np.int64)
    pictures = np.zeros((len(budgets), *images.shape), np.uint8)
    shapes = find_shapes(images).tolist()
    for index, (image, latent, shape) in enumerate(
        tqdm(zip(images, latents, shapes, strict=True), "codes", len(images))
    ):
        size = shape_size(shape, backend.width, backend.height)
        for row, code in enumerate(codec.pack(image, latent, size, decode, budgets)):
            content = codec.unpack(code)
            decoded = decode(codec.latent(content))
            pictures[row, index] = codec.picture(content, decoded, post_filter).image
            sizes[row, index] = len(code)
    return sizes, pictures
