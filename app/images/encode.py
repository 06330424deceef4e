"""Encoding of image arrays: enlarged, laid out in a grid, -> JPEG, WebP or GIF files (PNG: png.py)."""

import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from app.images.arrays import ImageArray

FRAME_MS = 120
END_FRAME_MS = 600


def scaled_size(width: int, height: int, longer_edge: int | None) -> tuple[int, int]:
    """Width and height in pixels, the longer one brought to `longer_edge`; unchanged where that is None."""
    if longer_edge is None:
        return width, height
    scale = longer_edge / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def enlarge(image: ImageArray, longer_edge: int | None) -> ImageArray:
    """Scale (height, width, 3) uint8 smoothly until its longer edge has `longer_edge` pixels."""
    height, width, _ = image.shape
    size = scaled_size(width, height, longer_edge)
    if size == (width, height):
        return image
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def grid(images: Sequence[ImageArray], columns: int | None = None) -> ImageArray:
    """Lay images of one size out row by row; cells left over are white.

    Args:
        images: N arrays (height, width, 3) uint8.
        columns: images in a row; by default the smallest number that makes no more rows than columns.

    Returns:
        (rows * height, columns * width, 3) uint8; the image itself where N is 1.
    """
    if len(images) == 1:
        return images[0]
    columns = columns or math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    height, width, _ = images[0].shape
    sheet = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = image
    return sheet


def encode_jpeg(image: ImageArray) -> bytes:
    """A JPEG file of (height, width, 3) uint8, at quality 90."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=90)
    return file.getvalue()


def encode_webp(image: ImageArray) -> bytes:
    """A lossy WebP file of (height, width, 3) uint8, at quality 85 and the fastest method."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "WEBP", quality=85, method=0)
    return file.getvalue()


def encode_gif(images: Sequence[ImageArray], longer_edge: int | None = None) -> bytes:
    """An endless animation of (height, width, 3) uint8 images; FRAME_MS each, END_FRAME_MS the first and
    the last. They share 256 colours, found in an octree of them all, in a fiftieth of the time that median
    cut takes for each image.

    Args:
        images: of one size.
        longer_edge: they are scaled to it, as `enlarge` does.
    """
    colours = Image.fromarray(np.concatenate(images)).quantize(256, Image.Quantize.FASTOCTREE)
    frames = [
        Image.fromarray(enlarge(image, longer_edge)).quantize(palette=colours, dither=Image.Dither.NONE)
        for image in images
    ]
    durations = [FRAME_MS] * len(frames)
    durations[0] = durations[-1] = END_FRAME_MS
    file = io.BytesIO()
    frames[0].save(
        file, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=False
    )
    return file.getvalue()
