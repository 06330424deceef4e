"""ThumbHash: a picture without transparency as a few cosines of luminance and colour, in 17 to 25 bytes.

As in the reference implementation, https://github.com/evanw/thumbhash. In NumPy, since the kept packages
loop in Python over every pixel and component.
"""

from functools import lru_cache
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from app.images.arrays import ImageArray

Floats = NDArray[np.float64]

MOST = 7
"""Components of luminance along the longer side."""
COLOUR = 3
"""Components of either colour, each way."""
SATURATION = 1.25
"""What a reader multiplies colours by, for what rounding took."""


def encode(image: ImageArray) -> bytes:
    """The hash of (height, width, 3) uint8."""
    height, width, _ = image.shape
    red, green, blue = np.moveaxis(image / 255, 2, 0)
    across, down = (max(1, _round(MOST * side / max(width, height))) for side in (width, height))
    first, luminance, contrast = _components((red + green + blue) / 3, max(3, across), max(3, down))
    yellow, colours, scale = _components((red + green) / 2 - blue, COLOUR, COLOUR)
    redness, others, other_scale = _components(red - green, COLOUR, COLOUR)
    landscape = int(width > height)
    header = (
        _round(63 * first)
        | _round(31.5 + 31.5 * yellow) << 6
        | _round(31.5 + 31.5 * redness) << 12
        | _round(31 * contrast) << 18
        | (down if landscape else across) << 24
        | _round(63 * scale) << 27
        | _round(63 * other_scale) << 33
        | landscape << 39
    )
    nibbles = [_round(15 * value) for value in np.concatenate([luminance, colours, others])]
    pairs = zip_longest(nibbles[::2], nibbles[1::2], fillvalue=0)
    return header.to_bytes(5, "little") + bytes(low | high << 4 for low, high in pairs)


def decode(code: bytes, width: int, height: int) -> ImageArray:
    """The picture of a hash without transparency, (height, width, 3) uint8."""
    header = int.from_bytes(code[:5], "little")
    first, contrast = (header & 63) / 63, (header >> 18 & 31) / 31
    yellow, redness = (header >> 6 & 63) / 31.5 - 1, (header >> 12 & 63) / 31.5 - 1
    scale, other_scale = (header >> 27 & 63) / 63, (header >> 33 & 63) / 63
    shorter, landscape = max(3, header >> 24 & 7), bool(header >> 39 & 1)
    across, down = (MOST, shorter) if landscape else (shorter, MOST)
    pairs = np.frombuffer(code[5:], np.uint8)
    values = np.stack([pairs & 15, pairs >> 4], 1).reshape(-1) / 7.5 - 1
    count, colours = np.count_nonzero(_kept(across, down)), np.count_nonzero(_kept(COLOUR, COLOUR))
    light = _plane(first, values[:count] * contrast, across, down, width, height)
    starts = count, count + colours
    p, q = (
        _plane(mean, values[start : start + colours] * (size * SATURATION), COLOUR, COLOUR, width, height)
        for start, mean, size in zip(starts, (yellow, redness), (scale, other_scale), strict=True)
    )
    blue = light - 2 / 3 * p
    red = (3 * light - blue + q) / 2
    planes = np.stack([red, red - q, blue], axis=2)
    return np.floor(np.clip(planes, 0, 1) * 255 + 0.5).astype(np.uint8)


def _components(plane: Floats, across: int, down: int) -> tuple[float, Floats, float]:
    """The mean of (height, width), its other components between 0 and 1, and the largest of them."""
    height, width = plane.shape
    found = _waves(height, down).T @ plane @ _waves(width, across) / (width * height)
    values = found[_kept(across, down)]
    largest = float(np.abs(values).max())
    return float(found[0, 0]), 0.5 + 0.5 / largest * values if largest else values + 0.5, largest


def _plane(mean: float, values: Floats, across: int, down: int, width: int, height: int) -> Floats:
    found = np.zeros((down, across))
    found[_kept(across, down)] = 2 * values
    found[0, 0] = mean
    plane: Floats = _waves(height, down) @ found @ _waves(width, across).T
    return plane


@lru_cache(maxsize=64)
def _kept(across: int, down: int) -> NDArray[np.bool_]:
    """(down, across): the triangle of low frequencies, without the mean."""
    column, row = np.arange(across), np.arange(down)[:, None]
    kept = column * down < across * (down - row)
    kept[0, 0] = False
    return kept


@lru_cache(maxsize=256)
def _waves(size: int, count: int) -> Floats:
    """(size, count): the cosine of each component at each place."""
    waves: Floats = np.cos(np.pi / size * (np.arange(size)[:, None] + 0.5) * np.arange(count))
    return waves


def _round(value: float) -> int:
    return int(np.floor(value + 0.5))
