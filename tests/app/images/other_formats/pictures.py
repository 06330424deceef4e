"""A picture by a formula in integers, the same everywhere."""

import numpy as np

from app.images.arrays import ImageArray


def slopes(width: int, height: int) -> ImageArray:
    """Each colour rises to the right and to another side, (height, width, 3) uint8."""
    y, x = np.mgrid[:height, :width]
    red, green = x * x * 255 // width**2, x * y * 255 // (width * height)
    blue = x * (height - y) ** 2 * 255 // (width * height**2)
    return np.stack([red, green, blue], axis=2).astype(np.uint8)
