"""Encoding of image arrays: enlarged, laid out in a grid, -> JPEG, WebP, AVIF or GIF files, still or moving
(PNG: png.py)."""

import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from app.images.arrays import ImageArray

FRAME_MS = 120
END_FRAME_MS = 600
AVIF_SPEED = 9
"""The fastest but one, of which Pillow's encoder makes the same."""
TIMED_BOXES = (b"mvhd", b"tkhd", b"mdhd")
"""Boxes of an AVIF file that begin with the times of its creation and of its last change."""
MOVING_EDGES = (96, 256)
"""Pixels of a frame's longer edge, between which the quality of animations goes from most to least."""


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


def encode_avif(image: ImageArray) -> bytes:
    """An AVIF file of (height, width, 3) uint8, at quality 75 and a fast speed.

    A tenth smaller than `encode_webp` makes it, and no worse, in three times its time; the next slower speed
    takes three times as long again and saves a twentieth at most.
    """
    file = io.BytesIO()
    Image.fromarray(image).save(file, "AVIF", quality=75, speed=AVIF_SPEED, max_threads=1)
    return file.getvalue()


def encode_gif(images: Sequence[ImageArray], longer_edge: int | None = None) -> bytes:
    """An endless animation, as `frame_durations` has it. The images share 256 colours, found in an octree of
    them all, in a fiftieth of the time that median cut takes for each image.

    Args:
        images: (height, width, 3) uint8 of one size; equal ones in succession become one frame that lasts as
            long as they do.
        longer_edge: they are scaled to it, as `enlarge` does.
    """
    colours = Image.fromarray(np.concatenate(images)).quantize(256, Image.Quantize.FASTOCTREE)
    frames = [
        Image.fromarray(enlarge(image, longer_edge)).quantize(palette=colours, dither=Image.Dither.NONE)
        for image in images
    ]
    return _animation(frames, "GIF", loop=0, optimize=False)


def encode_moving_webp(images: Sequence[ImageArray], longer_edge: int | None = None) -> bytes:
    """The same as `encode_gif` in a sixth of its bytes. Every frame is a key frame: that is smaller here,
    where all of a picture moves, and no error of one frame stays in the next."""
    frames = [Image.fromarray(enlarge(image, longer_edge)) for image in images]
    quality = _moving_quality(frames[0], 90, 75)
    return _animation(frames, "WEBP", loop=0, quality=quality, method=0, kmin=0, kmax=1)


def encode_moving_avif(images: Sequence[ImageArray], longer_edge: int | None = None) -> bytes:
    """The same as `encode_gif` in a twenty-fifth of its bytes; equal images stay frames of their own."""
    frames = [Image.fromarray(enlarge(image, longer_edge)) for image in images]
    quality = _moving_quality(frames[0], 80, 60)
    return _without_times(_animation(frames, "AVIF", quality=quality, speed=AVIF_SPEED, max_threads=1))


def frame_durations(frames: int) -> list[int]:
    """Milliseconds that each frame of an animation is shown for: longer the first and the last."""
    return [END_FRAME_MS if index in (0, frames - 1) else FRAME_MS for index in range(frames)]


def _moving_quality(frame: Image.Image, small: int, large: int) -> int:
    """The quality at which each frame comes closer than in a GIF: the more an image has been enlarged, the
    less of it is detail, which is what suffers."""
    return round(float(np.interp(max(frame.size), MOVING_EDGES, (small, large))))


def _animation(frames: Sequence[Image.Image], kind: str, **options: int | bool) -> bytes:
    file = io.BytesIO()
    durations = frame_durations(len(frames))
    frames[0].save(file, kind, save_all=True, append_images=frames[1:], duration=durations, **options)
    return file.getvalue()


def _without_times(avif: bytes) -> bytes:
    """An AVIF file that does not say when it was made, 0 as the time (ISO 14496-12, 8.2.2, 8.3.2, 8.4.2): the
    same images make the same file. A still image never says it."""
    content = bytearray(avif)
    movie = avif.find(b"moov")
    for box in TIMED_BOXES if movie >= 0 else ():
        begin = avif.index(box, movie) + len(box)
        times = begin + 4  # behind version and flags
        length = 16 if avif[begin] == 1 else 8
        content[times : times + length] = bytes(length)
    return bytes(content)
