"""A picture in other formats, at the bytes of its codes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

from PIL import Image

from app.images.arrays import ImageArray
from app.images.encode import AVIF_SPEED
from app.images.letterbox import fill
from app.images.other_formats import blur_hash, thumb_hash
from app.images.other_formats.files import FileFormat, ImageFile, best_file, best_files, saved
from app.images.quality import psnr

FormatName = Literal["webp", "avif", "jpeg", "blurhash", "thumbhash"]
FORMATS: tuple[FormatName, ...] = get_args(FormatName)


@dataclass(frozen=True, eq=False)
class Rendition:
    """A picture in another format.

    Attributes:
        data: the file, or the characters of a BlurHash.
        image: what it shows, (height, width, 3) uint8, of the size and with the border of the picture.
        psnr: dB, against the picture.
    """

    data: bytes
    image: ImageArray
    psnr: float


@dataclass(frozen=True)
class OtherFormat:
    """A picture in a format under each of several numbers of bytes.

    Attributes:
        renditions: the best one under each; None where all are larger.
        smallest: bytes of the smallest one.
    """

    name: FormatName
    renditions: Sequence[Rendition | None]
    smallest: int


def in_other_formats(
    image: ImageArray,
    box: tuple[int, int, int, int],
    budgets: Sequence[int],
    names: Sequence[FormatName],
) -> list[OtherFormat]:
    """A picture in other formats, each at its best under each number of bytes.

    Only what is no border is coded; the border is made again as a code's is, so that figures can be compared.
    It takes about 50 ms for eight budgets in all formats at 96 x 64.

    Args:
        image: (height, width, 3) uint8.
        box: left, top, right and bottom of what is no border.
        budgets: bytes.
    """
    left, top, right, bottom = box
    height, width, _ = image.shape
    cropped = image[top:bottom, left:right]
    others = []
    for name in names:
        files, smallest = _BEST[name](cropped, budgets)
        seen: dict[bytes, Rendition] = {}
        for file in files:
            if file is not None and file.data not in seen:
                shown = fill(file.image, width, height)
                seen[file.data] = Rendition(file.data, shown, float(psnr(image[None], shown[None])[0]))
        renditions = [None if file is None else seen[file.data] for file in files]
        others.append(OtherFormat(name, renditions, smallest))
    return others


def blur_hashes(image: ImageArray, budgets: Sequence[int]) -> tuple[list[ImageFile | None], int]:
    """The best BlurHash of (height, width, 3) uint8 under each number of characters, and the shortest."""
    height, width, _ = image.shape
    light = blur_hash.light(image)
    made: dict[tuple[int, int], ImageFile] = {}
    best = []
    for budget in budgets:
        for size in (sizes := list(blur_hash.components(budget))):
            if size not in made:
                code = blur_hash.encode(light, *size)
                made[size] = ImageFile(code.encode(), blur_hash.decode(code, width, height))
        best.append(best_file(image, [made[size] for size in sizes]))
    return best, blur_hash.hash_length(1, 1)


def thumb_hashes(image: ImageArray, budgets: Sequence[int]) -> tuple[list[ImageFile | None], int]:
    """The ThumbHash of (height, width, 3) uint8 where it fits, and its bytes."""
    height, width, _ = image.shape
    code = thumb_hash.encode(image)
    file = ImageFile(code, thumb_hash.decode(code, width, height))
    return [file if len(code) <= budget else None for budget in budgets], len(code)


def _webp(image: Image.Image, quality: int) -> bytes:
    return saved(image, "WEBP", quality=quality, method=6)


def _avif(image: Image.Image, quality: int) -> bytes:
    return saved(image, "AVIF", quality=quality, speed=AVIF_SPEED, max_threads=1)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    return saved(image, "JPEG", quality=quality, optimize=True)


_OF_BLOCKS = (1, 2 / 3, 1 / 2, 1 / 3, 1 / 4, 1 / 6)
"""Scales that make of 96 pixels whole blocks of WebP's 16, which cost the same where they are not full."""

_BEST: dict[FormatName, Callable[[ImageArray, Sequence[int]], tuple[list[ImageFile | None], int]]] = {
    "webp": partial(best_files, file_format=FileFormat(_webp, _OF_BLOCKS)),
    "avif": partial(best_files, file_format=FileFormat(_avif, (0.5, 0.35, 0.2))),
    "jpeg": partial(best_files, file_format=FileFormat(_jpeg, (0.75, 0.5, 0.35, 0.2))),
    "blurhash": blur_hashes,
    "thumbhash": thumb_hashes,
}
