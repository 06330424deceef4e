"""Shapes of fitted images: how much of each is the original, found by filling its border again."""

import numpy as np

from app.codes.range_coder import TOTAL
from app.codes.shape import shape_box, shape_count
from app.codes.tables import Integers
from app.images.arrays import ImageArray
from app.images.letterbox import fill

SMOOTH = 2.0
"""Mean second difference along a line, in grey levels, that no blurred border reaches."""
LEAST = 4
"""Pixels: of less than that everything would follow in a plain image."""


def find_shapes(images: ImageArray) -> Integers:
    """The number of each image's shape: the smallest part of it that its border follows from.

    Args:
        images: (N, height, width, 3) uint8, fitted by `app.images.letterbox`.
    """
    _, height, width, _ = images.shape
    boxes = {shape: shape_box(shape, width, height) for shape in range(shape_count(width, height))}
    by_size = sorted(boxes, key=lambda shape: _area(boxes[shape]))
    return np.array([_find(image, by_size, boxes) for image in images])


def shape_frequencies(shapes: Integers, count: int) -> Integers:
    """(count,) frequencies of the range coder; no shape is impossible."""
    least = TOTAL // (8 * count)
    seen = np.bincount(shapes, minlength=count) / len(shapes)
    near = np.convolve(seen, [0.05, 0.1, 0.7, 0.1, 0.05], "same")
    frequencies: Integers = least + np.floor(near / near.sum() * (TOTAL - least * count)).astype(np.int64)
    frequencies[np.argmax(frequencies)] += TOTAL - frequencies.sum()
    return frequencies


def _find(image: ImageArray, by_size: list[int], boxes: dict[int, tuple[int, int, int, int]]) -> int:
    height, width, _ = image.shape
    top_, bottom_ = _smooth_ends(image)
    left_, right_ = _smooth_ends(image.swapaxes(0, 1))
    for shape in by_size:
        left, top, right, bottom = box = boxes[shape]
        if top > top_ or height - bottom > bottom_ or left > left_ or width - right > right_:
            continue
        if min(right - left, bottom - top) < LEAST:
            continue
        inside = np.ascontiguousarray(image[box[1] : box[3], box[0] : box[2]])
        if np.array_equal(fill(inside, width, height), image):
            return shape
    return int(height - 1)


def _smooth_ends(image: ImageArray) -> tuple[int, int]:
    """How many lines from the first one on, and from the last one back, are as smooth as a border."""
    rough = np.abs(np.diff(image.astype(np.int16), 2, axis=1)).mean(axis=(1, 2)) >= SMOOTH
    if not rough.any():
        return len(image), len(image)
    return int(np.argmax(rough)), int(np.argmax(rough[::-1]))


def _area(box: tuple[int, int, int, int]) -> int:
    left, top, right, bottom = box
    return (right - left) * (bottom - top)
