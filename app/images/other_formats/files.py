"""The best file of a picture under a number of bytes: over qualities, and scaled down where that helps."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from app.images.arrays import ImageArray

QUALITIES: Sequence[int] = (*range(20), *range(20, 40, 2), *range(40, 101, 4))
ENOUGH = 20
"""A quality from which on no smaller scale has been seen to be better."""


@dataclass(frozen=True)
class FileFormat:
    """A way to write image files.

    Attributes:
        encode: an image and a quality of 0 to 100 -> a file that Pillow reads.
        scales: from 1 down, that are tried.
        size: the bytes of a file that count.
    """

    encode: Callable[[Image.Image, int], bytes]
    scales: Sequence[float]
    size: Callable[[bytes], int] = len


@dataclass(frozen=True, eq=False)
class ImageFile:
    """A file, and the image (height, width, 3) uint8 that it shows at the size of its original."""

    data: bytes
    image: ImageArray


def best_files(
    image: ImageArray, budgets: Sequence[int], file_format: FileFormat
) -> tuple[list[ImageFile | None], int]:
    """The file of the least square error under each budget, and the bytes of the smallest file.

    Args:
        image: (height, width, 3) uint8.

    Returns:
        For each budget None where every file is larger.
    """
    scaled = [_Scaled(image, scale, file_format) for scale in file_format.scales]
    best: list[ImageFile | None] = []
    for budget in budgets:
        found: list[ImageFile] = []
        for each in scaled:
            quality = each.quality_under(budget)
            if quality is not None:
                found.append(each.file(quality))
                if quality >= ENOUGH:
                    break
        best.append(best_file(image, found))
    return best, scaled[-1].size(QUALITIES[0])


def best_file(image: ImageArray, files: Sequence[ImageFile]) -> ImageFile | None:
    """The one of the least square error; None where there is none."""
    return min(files, key=lambda file: _square_error(file.image, image), default=None)


class _Scaled:
    """The files of an image at one scale, each made when it is first asked for."""

    def __init__(self, image: ImageArray, scale: float, file_format: FileFormat) -> None:
        self._size = image.shape[1], image.shape[0]
        small = max(1, round(self._size[0] * scale)), max(1, round(self._size[1] * scale))
        original = Image.fromarray(image)
        self._image = original if small == self._size else original.resize(small, Image.Resampling.LANCZOS)
        self._format = file_format
        self._written: dict[int, bytes] = {}
        self._read: dict[int, ImageFile] = {}

    def size(self, quality: int) -> int:
        """Bytes at a quality."""
        return self._format.size(self._data(quality))

    def quality_under(self, budget: int) -> int | None:
        """The highest of QUALITIES of at most so many bytes, if sizes rise with them."""
        if self.size(QUALITIES[0]) > budget:
            return None
        low, high = 1, len(QUALITIES)
        while low < high:
            middle = min((low + high) // 2, 3 * low)  # most end low, where files are made sooner
            if self.size(QUALITIES[middle]) <= budget:
                low = middle + 1
            else:
                high = middle
        return QUALITIES[low - 1]

    def file(self, quality: int) -> ImageFile:
        """The file of a quality, and what it shows."""
        if quality not in self._read:
            data = self._data(quality)
            shown = Image.open(io.BytesIO(data)).convert("RGB")
            if shown.size != self._size:
                shown = shown.resize(self._size, Image.Resampling.BICUBIC)
            self._read[quality] = ImageFile(data, np.asarray(shown))
        return self._read[quality]

    def _data(self, quality: int) -> bytes:
        if quality not in self._written:
            self._written[quality] = self._format.encode(self._image, quality)
        return self._written[quality]


def saved(image: Image.Image, name: str, **options: int) -> bytes:
    """The file that Pillow makes."""
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def _square_error(one: ImageArray, other: ImageArray) -> float:
    difference = one.astype(np.float32) - other
    return float(np.vdot(difference, difference))
