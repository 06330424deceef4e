"""Strangers: images that are no car, made of images of cars and of nothing, to tell latents of cars from."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from app.images.arrays import ImageArray

Random = np.random.Generator
BLOCK = 16
"""Pixels a side of the blocks of an image that are shuffled."""


def strangers(images: ImageArray, seed: int) -> ImageArray:
    """As many images of no car, one made from each of (N, height, width, 3), in one way of those below."""
    random = np.random.default_rng(seed)
    made = [WAYS[int(random.integers(len(WAYS)))](image, random) for image in images]
    return np.ascontiguousarray(np.stack(made), np.uint8)


def _upside_down(image: ImageArray, _: Random) -> ImageArray:
    return image[::-1]


def _negative(image: ImageArray, _: Random) -> ImageArray:
    negative: ImageArray = 255 - image
    return negative


def _on_its_side(image: ImageArray, _: Random) -> ImageArray:
    height, width, _channels = image.shape
    return np.asarray(Image.fromarray(image).transpose(Image.Transpose.ROTATE_90).resize((width, height)))


def _part(image: ImageArray, random: Random) -> ImageArray:
    """A fifth to two fifths of its width: metal, glass, a wheel, the ground."""
    height, width, _ = image.shape
    share = random.uniform(0.2, 0.42)
    left, top = random.uniform(0, (1 - share) * width), random.uniform(0, (1 - share) * height)
    box = left, top, left + share * width, top + share * height
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC, box))


def _rolled(image: ImageArray, random: Random) -> ImageArray:
    height, width, _ = image.shape
    by = (int(random.uniform(0.3, 0.7) * height), int(random.uniform(0.3, 0.7) * width))
    return np.roll(image, by, (0, 1))


def _shuffled(image: ImageArray, random: Random) -> ImageArray:
    height, width, channels = image.shape
    block = min(BLOCK, height // 2, width // 2)
    rows, columns = height // block, width // block
    whole = image[: rows * block, : columns * block]
    blocks = whole.reshape(rows, block, columns, block, channels).swapaxes(1, 2)
    mixed = random.permutation(blocks.reshape(rows * columns, block, block, channels))
    made = image.copy()
    made[: rows * block, : columns * block] = (
        mixed.reshape(rows, columns, block, block, channels).swapaxes(1, 2).reshape(whole.shape)
    )
    return made


def _scrambled(image: ImageArray, random: Random) -> ImageArray:
    """Its frequencies, with phases of noise."""
    height, width, _ = image.shape
    phases = np.angle(np.fft.fft2(random.standard_normal((height, width))))
    strengths = np.abs(np.fft.fft2(image.astype(np.float64), axes=(0, 1)))
    made = np.fft.ifft2(strengths * np.exp(1j * phases)[:, :, np.newaxis], axes=(0, 1)).real
    scrambled: ImageArray = np.clip(made, 0, 255).astype(np.uint8)
    return scrambled


def _shapes(image: ImageArray, random: Random) -> ImageArray:
    """Up to six rectangles and ellipses; none is a plain image."""
    height, width, _ = image.shape
    made = Image.new("RGB", (width, height), _colour(random))
    pen = ImageDraw.Draw(made)
    for _number in range(int(random.integers(0, 7))):
        left, right = np.sort(random.integers(0, width, 2)).tolist()
        top, bottom = np.sort(random.integers(0, height, 2)).tolist()
        draw = pen.ellipse if random.random() < 0.5 else pen.rectangle
        draw((left, top, right, bottom), fill=_colour(random))
    return np.asarray(made)


def _noise(image: ImageArray, random: Random) -> ImageArray:
    """Noise from fine to cloudy, of little colour."""
    height, width, _ = image.shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    falling = np.maximum(frequency, 1 / width) ** -random.uniform(0.6, 2)
    white = np.fft.fft2(random.standard_normal((height, width, 3)), axes=(0, 1))
    made = np.fft.ifft2(white * falling[:, :, np.newaxis], axes=(0, 1)).real
    made *= random.uniform(20, 60) / made.std()
    grey = 1.5 * (0.3 * made + 0.7 * made.mean(axis=2, keepdims=True))
    noise: ImageArray = np.clip(grey + random.uniform(60, 190, 3), 0, 255).astype(np.uint8)
    return noise


def _colour(random: Random) -> tuple[int, int, int]:
    red, green, blue = random.integers(0, 256, 3).tolist()
    return red, green, blue


WAYS: tuple[Callable[[ImageArray, Random], ImageArray], ...] = (
    _upside_down,
    _negative,
    _on_its_side,
    _part,
    _rolled,
    _shuffled,
    _scrambled,
    _shapes,
    _noise,
)
