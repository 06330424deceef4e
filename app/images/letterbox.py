"""Letterboxing: an image scaled to fit the model's size, its border filled from its own blurred edges."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.images.arrays import ImageArray

Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels, which may be fractions."""

BORDER_BLUR = 4
"""Radius in pixels of the Gaussian that softens the replicated edges around an image of another shape."""

LONGEST_BY_MATRIX = 512
"""Longest side of what is scaled by matrices, as JPEGs of up to twelve megapixels are; beyond it Pillow is as
quick."""
LANCZOS_LOBES = 3
BAND = 16
"""Rows of a matrix that are multiplied at once."""


def fit(image: Image.Image, width: int, height: int) -> ImageArray:
    """Scale an RGB image to fit inside width x height and fill what is left from its own edges, replicated
    outwards and blurred, so that the border looks like a photograph and not like a frame.

    Returns:
        (height, width, 3) uint8.
    """
    return fill(scaled_array(image, size_inside(image.size, width, height)), width, height)


def size_inside(size: tuple[int, int], width: int, height: int) -> tuple[int, int]:
    """The size that fits inside width x height, aspect kept."""
    factor = min(width / size[0], height / size[1])
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def scale(image: Image.Image, size: tuple[int, int], box: Box | None = None) -> Image.Image:
    """The image, or the part of it in a box, scaled to a size with Lanczos' filter."""
    whole = box is None or box == (0, 0, *image.size)
    if whole and image.size == size:
        return image
    if image.mode == "RGB" and max(image.size) <= LONGEST_BY_MATRIX:
        return Image.fromarray(scaled_array(image, size, box))
    return image.resize(size, Image.Resampling.LANCZOS, None if whole else box, reducing_gap=3.0)


def scaled_array(image: Image.Image, size: tuple[int, int], box: Box | None = None) -> ImageArray:
    """The same of an RGB image, as an array: a small one needs not become an image again."""
    if max(image.size) > LONGEST_BY_MATRIX or (image.size == size and box in (None, (0, 0, *size))):
        return np.asarray(scale(image, size, box))
    return resample(np.asarray(image), *size, box)


def fill(image: ImageArray, width: int, height: int) -> ImageArray:
    """The image, as wide or as high as asked for, on width x height, its border filled."""
    return image if image.shape[:2] == (height, width) else _fill_border(image, width, height)


def _fill_border(image: ImageArray, width: int, height: int) -> ImageArray:
    """Centre an image, as wide or as high as asked for, on width x height. Only the border is computed, by a
    matrix that replicates the edge and blurs across it, and one that blurs along it."""
    canvas = np.empty((height, width, 3), np.uint8)
    beside = len(image) == height
    # Views with the axis in front that has the border.
    source, target = (image.swapaxes(0, 1), canvas.swapaxes(0, 1)) if beside else (image, canvas)
    size, along, _ = source.shape
    before, across = _border_matrix(size, len(target))
    rows = across @ source.reshape(size, -1).astype(np.float32)
    lines = rows.reshape(-1, along, 3).swapaxes(0, 1).reshape(along, -1)
    border = _rounded(_blur_matrix(along) @ lines).reshape(along, -1, 3).swapaxes(0, 1)
    target[:before] = border[:before]
    target[before : before + size] = source
    target[before + size :] = border[before:]
    return canvas


def resample(image: ImageArray, width: int, height: int, box: Box | None = None) -> ImageArray:
    """Scale (h, w, 3) uint8, or a box of it, to (height, width, 3) with Pillow's Lanczos filter, as two
    products with matrices: a quarter of Pillow's time for an image of some hundred pixels, and no rounding in
    between."""
    left, top, right, bottom = box or (0, 0, image.shape[1], image.shape[0])
    lines = image.reshape(len(image), -1).astype(np.float32)
    columns = np.empty((lines.shape[1], height), np.float32)
    for made, used, weights in _lanczos_bands(len(image), height, top, bottom):
        np.matmul(lines[used].T, weights.T, out=columns[:, made])
    # Where lay (h, w, 3) lies (w, 3, height) now, so that nothing needs to be moved for the other axis.
    columns = columns.reshape(image.shape[1], -1)
    scaled = np.empty((width, 3 * height), np.float32)
    for made, used, weights in _lanczos_bands(image.shape[1], width, left, right):
        np.matmul(weights, columns[used], out=scaled[made])
    return np.ascontiguousarray(_rounded(scaled).reshape(width, 3, height).transpose(2, 0, 1))


def _rounded(values: NDArray[np.float32]) -> ImageArray:
    """The nearest grey levels; overwrites the values."""
    values += 0.5
    return np.clip(values, 0, 255, out=values).astype(np.uint8)


@lru_cache(maxsize=128)
def _lanczos_bands(
    old: int, new: int, start: float, stop: float
) -> tuple[tuple[slice, slice, NDArray[np.float32]], ...]:
    """The matrix (new, old) that scales one axis from start to stop, cut into bands, as each row has few
    values other than zero: (rows made, rows used, weights) of each."""
    stretch = max((stop - start) / new, 1.0)
    centres = start + (np.arange(new) + 0.5) * (stop - start) / new
    first = np.floor(centres - LANCZOS_LOBES * stretch + 0.5).astype(int).clip(0)
    end = np.floor(centres + LANCZOS_LOBES * stretch + 0.5).astype(int).clip(max=old)
    index = first[:, None] + np.arange((end - first).max())
    places = (index + 0.5 - centres[:, None]) / stretch
    values = np.where(index < end[:, None], np.sinc(places) * np.sinc(places / LANCZOS_LOBES), 0.0)
    values /= values.sum(axis=1, keepdims=True)
    bands = []
    for begin in range(0, new, BAND):
        rows = slice(begin, min(begin + BAND, new))
        low, high = int(first[rows].min()), int(end[rows].max())
        weights = np.zeros((rows.stop - begin, high - low), np.float32)
        for row in range(begin, rows.stop):
            size = end[row] - first[row]
            weights[row - begin, first[row] - low : end[row] - low] = values[row, :size]
        bands.append((rows, slice(low, high), weights))
    return tuple(bands)


@lru_cache(maxsize=256)
def _border_matrix(size: int, total: int) -> tuple[int, NDArray[np.float32]]:
    """What makes the blurred rows around `size` rows, which are centred on `total`, out of them.

    Returns:
        the number of rows before them, and a matrix (total - size, size).
    """
    before = (total - size) // 2
    replicate = np.arange(total).clip(before, before + size - 1) - before
    outside = np.r_[0:before, before + size : total]
    return before, _blur_matrix(total)[outside] @ np.eye(size, dtype=np.float32)[replicate]


@lru_cache(maxsize=256)
def _blur_matrix(size: int) -> NDArray[np.float32]:
    """(size, size): Pillow's GaussianBlur(BORDER_BLUR) along one axis, which is three box filters in turn,
    the edges replicated (Gwosdek et al. 2011, "Theoretical foundations of Gaussian convolution by extended
    box filtering")."""
    variance = BORDER_BLUR**2 / 3
    whole = int((math.sqrt(12 * variance + 1) - 1) / 2)
    part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) ** 2))
    weights = np.array([part, *[1.0] * (2 * whole + 1), part]) / (2 * (whole + part) + 1)
    box = np.zeros((size, size))
    for row in range(size):
        np.add.at(box[row], np.arange(row - whole - 1, row + whole + 2).clip(0, size - 1), weights)
    return np.linalg.matrix_power(box, 3).astype(np.float32)
