"""BlurHash: a picture as a few cosines of linear light, in characters of base 83.

As described in https://github.com/woltapp/blurhash/blob/master/Algorithm.md. In NumPy, since the kept
packages loop in Python over every pixel and component.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from app.images.arrays import ImageArray

Floats = NDArray[np.float32]

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~"
MOST = 9
"""Components each way."""
LEVELS = 19
"""Of each colour of a component."""
FINEST = 4095
"""Steps of linear light in the table that makes sRGB of it, which errs by 1 of 255 at most."""


def hash_length(across: int, down: int) -> int:
    """Characters of a hash with so many components."""
    return 4 + 2 * across * down


def components(budget: int) -> Iterator[tuple[int, int]]:
    """Every (across, down) of at most `budget` characters that could have no component more either way."""
    fit = {
        (across, down)
        for across in range(1, MOST + 1)
        for down in range(1, MOST + 1)
        if hash_length(across, down) <= budget
    }
    for across, down in sorted(fit):
        if (across + 1, down) not in fit and (across, down + 1) not in fit:
            yield across, down


def light(image: ImageArray) -> Floats:
    """The linear light of (height, width, 3) uint8: of each component, (MOST, MOST, 3) down and across."""
    height, width, _ = image.shape
    linear = _LINEAR[image] / (width * height)
    weights = np.full((MOST, MOST, 1), 2, np.float32)
    weights[0, 0] = 1
    found = np.einsum("yj,yxc,xi->jic", _waves(height), linear, _waves(width), optimize=True)
    return np.asarray(weights * found)


def encode(light: Floats, across: int, down: int) -> str:
    """The hash of what `light` found, with so many of its components."""
    first, rest = light[0, 0], light[:down, :across].reshape(-1, 3)[1:]
    finest = int(np.clip(np.floor(np.abs(rest).max() * 166 - 0.5), 0, 82)) if len(rest) else 0
    ratio = rest / ((finest + 1) / 166)
    levels = np.clip(np.floor(np.sign(ratio) * np.sqrt(np.abs(ratio)) * 9 + 9.5), 0, LEVELS - 1)
    red, green, blue = (int(value) for value in _srgb(first))
    digits = [_digits(across - 1 + (down - 1) * 9, 1), _digits(finest, 1)]
    digits.append(_digits((red << 16) + (green << 8) + blue, 4))
    digits += [_digits(int((r * LEVELS + g) * LEVELS + b), 2) for r, g, b in levels]
    return "".join(digits)


def decode(code: str, width: int, height: int) -> ImageArray:
    """The picture of a hash, (height, width, 3) uint8, as it is shown by default (punch 1).

    Raises:
        ValueError: it is no hash.
    """
    down, across = (number + 1 for number in divmod(_number(code[:1]), 9))
    if len(code) != (length := hash_length(across, down)):
        raise ValueError(f"a BlurHash of {across} x {down} components has {length} characters")
    first = _number(code[2:6])
    numbers = np.array([_number(code[start : start + 2]) for start in range(6, len(code), 2)])
    levels = np.stack([numbers // LEVELS**2, numbers // LEVELS % LEVELS, numbers % LEVELS], 1) / 9 - 1
    values = np.zeros((down * across, 3), np.float32)
    values[0] = _LINEAR[[first >> 16, first >> 8 & 255, first & 255]]
    values[1:] = np.sign(levels) * levels**2 * ((_number(code[1]) + 1) / 166)
    grid = values.reshape(down, across, 3)
    rows, columns = _waves(height)[:, :down], _waves(width)[:, :across]
    return _srgb(np.einsum("yj,jic,xi->yxc", rows, grid, columns, optimize=True))


def _digits(number: int, length: int) -> str:
    return "".join(DIGITS[number // 83**place % 83] for place in reversed(range(length)))


def _number(digits: str) -> int:
    number = 0
    for digit in digits:
        number = number * 83 + DIGITS.index(digit)
    return number


def _srgb(linear: Floats) -> ImageArray:
    return _SRGB[np.rint(np.clip(linear, 0, 1) * FINEST).astype(np.int32)]


@lru_cache(maxsize=256)
def _waves(size: int) -> Floats:
    """(size, MOST): the cosine of each component at each place."""
    waves: Floats = np.cos(np.pi / size * np.arange(size)[:, None] * np.arange(MOST)).astype(np.float32)
    return waves


def _linear_table() -> Floats:
    values = np.arange(256) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return linear.astype(np.float32)


def _srgb_table() -> ImageArray:
    linear = np.arange(FINEST + 1) / FINEST
    curve = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.floor(curve * 255 + 0.5).astype(np.uint8)


_LINEAR, _SRGB = _linear_table(), _srgb_table()
