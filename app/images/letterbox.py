"""Pictures between bytes and arrays: decoded, turned upright, fitted to the model's size; encoded again."""

import io
import math
import warnings
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from app.errors import PictureError, PictureTooLarge, UnreadablePicture, UnsupportedPicture
from app.screening import picture_file, screen

Pixels = NDArray[np.uint8]

PLUGINS = (
    JpegImagePlugin.JpegImageFile,
    PngImagePlugin.PngImageFile,
    WebPImagePlugin.WebPImageFile,
    GifImagePlugin.GifImageFile,
    BmpImagePlugin.BmpImageFile,
    TiffImagePlugin.TiffImageFile,
    AvifImagePlugin.AvifImageFile,
)
"""Readers of the accepted formats. They are imported here because Pillow, asked for a format that it does not
have yet, would import all it knows."""
FORMATS = tuple(plugin.format for plugin in PLUGINS)
"""Pillow's names of the accepted formats. Every other decoder stays out of reach of what clients send."""

SCALED_FORMATS = ("JPEG", "MPO")
"""What can be decoded at a smaller scale; a camera's MPO is a JPEG with more pictures behind it."""
WHOLE_SHARE = 2
"""A picture of any other format may have this many times fewer pixels: at up to 15 bytes a pixel, which WebP
needs while it is decoded, none takes more memory than the largest JPEG, at up to 8."""
MAX_SIDE = 65_535
"""Longest side of a picture, which is a JPEG's: Pillow takes memory for every row, however short."""

BORDER_BLUR = 4
"""Radius in pixels of the Gaussian that softens the replicated edges around a picture of another shape."""

LONGEST_BY_MATRIX = 512
"""Longest side of what is scaled by matrices, as JPEGs of up to twelve megapixels are; beyond it Pillow is as
quick."""
LANCZOS_LOBES = 3
BAND = 16
"""Rows of a matrix that are multiplied at once."""

EXIF_ORIENTATION = 0x0112
TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> the operation that turns the picture upright (CIPA DC-008, table 6)."""

FRAME_MS = 120
END_FRAME_MS = 600

Image.MAX_IMAGE_PIXELS = None  # read_picture has its own limit and refuses before decoding
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # the threads that decode are counted by the one who calls
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # odd but readable metadata


def read_picture(data: bytes, width: int, height: int, max_pixels: int) -> Pixels:
    """Decode one picture and fit it to the model's size.

    Args:
        data: a file in one of FORMATS; of an animation the first frame is taken.
        width, height: the model's picture size in pixels.
        max_pixels: the most pixels the header of a JPEG may announce; of any other format, that divided by
            WHOLE_SHARE. Checked before anything is decoded.

    Returns:
        (height, width, 3) uint8, RGB.

    Raises:
        UnsupportedPicture, UnreadablePicture, PictureTooLarge.
    """
    if not data:
        raise UnreadablePicture("the picture is empty")
    screen(data, max_pixels // WHOLE_SHARE)
    try:
        image = Image.open(picture_file(data), formats=FORMATS)
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        raise UnsupportedPicture(f"not a picture of a supported format ({', '.join(FORMATS)})") from error
    except Exception as error:  # Pillow's readers raise almost anything on broken input
        raise UnreadablePicture("the picture's header is damaged") from error
    if max(image.size) > MAX_SIDE:
        raise PictureTooLarge(
            f"the picture has {image.width} x {image.height} pixels; no side may be longer than {MAX_SIDE}"
        )
    limit = max_pixels if image.format in SCALED_FORMATS else max_pixels // WHOLE_SHARE
    if image.width * image.height > limit:
        raise PictureTooLarge(
            f"the picture has {image.width} x {image.height} pixels;"
            f" at most {limit} pixels are allowed in a {image.format}"
        )
    try:
        return _decode_and_fit(image, width, height)
    except PictureError:
        raise
    except Exception as error:
        raise UnreadablePicture("the picture is damaged or incomplete") from error


def _decode_and_fit(image: Image.Image, width: int, height: int) -> Pixels:
    """Decode an opened file, scale it, turn it upright, lay it on white and fill its border, in this order:
    each step after the scaling works on a few thousand pixels instead of millions."""
    # Pillow turns a TIFF upright by itself while it loads it, and no other format.
    turn = None if image.format == "TIFF" else TRANSPOSITIONS.get(_orientation(image))
    sideways = turn in (
        Image.Transpose.TRANSPOSE,
        Image.Transpose.ROTATE_270,
        Image.Transpose.TRANSVERSE,
        Image.Transpose.ROTATE_90,
    )
    box = (height, width) if sideways else (width, height)
    # A JPEG decoded at the nearest larger scale is a few times cheaper; from twice the scaled size on the
    # result differs from a full decode by less than one grey level on average.
    scale = 2 * min(box[0] / image.width, box[1] / image.height)
    image.draft(None, (max(1, int(scale * image.width)), max(1, int(scale * image.height))))
    image.load()
    smaller = _resizable(image)
    if smaller.mode == "RGBA" or max(smaller.size) > LONGEST_BY_MATRIX:
        smaller = _scale_inside(smaller, *box)
    return fit(_flatten(smaller if turn is None else smaller.transpose(turn)), width, height)


def fit(image: Image.Image, width: int, height: int) -> Pixels:
    """Scale an RGB picture to fit inside width x height and fill what is left from its own edges, replicated
    outwards and blurred, so that the border looks like a photograph and not like a frame.

    Returns:
        (height, width, 3) uint8.
    """
    if max(image.size) > LONGEST_BY_MATRIX:
        image = _scale_inside(image, width, height)
    inner = _size_inside(image, width, height)
    picture = np.asarray(image)
    if inner != image.size:
        picture = resample(picture, *inner)
    return picture if inner == (width, height) else _fill_border(picture, width, height)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(EXIF_ORIENTATION, 1))
    except Exception:  # a broken EXIF block says nothing about the pixels
        return 1


def _resizable(image: Image.Image) -> Image.Image:
    """The picture in a mode that scales smoothly: L, RGB, or RGBA where it has transparency."""
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBa"):
        return image.convert("RGBA")
    if image.mode.startswith("I"):
        sixteen_bit = np.asarray(image.convert("I")).clip(0, 65535)
        return Image.fromarray((sixteen_bit // 257).astype(np.uint8))
    return image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGB")


def _scale_inside(image: Image.Image, width: int, height: int) -> Image.Image:
    size = _size_inside(image, width, height)
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _size_inside(image: Image.Image, width: int, height: int) -> tuple[int, int]:
    """The size that fits inside width x height, aspect kept."""
    scale = min(width / image.width, height / image.height)
    return max(1, round(image.width * scale)), max(1, round(image.height * scale))


def _flatten(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image if image.mode == "RGB" else image.convert("RGB")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white


def _fill_border(picture: Pixels, width: int, height: int) -> Pixels:
    """Centre a picture, as wide or as high as asked for, on width x height. Only the border is computed, by a
    matrix that replicates the edge and blurs across it, and one that blurs along it."""
    canvas = np.empty((height, width, 3), np.uint8)
    beside = len(picture) == height
    # Views with the axis in front that has the border.
    source, target = (picture.swapaxes(0, 1), canvas.swapaxes(0, 1)) if beside else (picture, canvas)
    size, along, _ = source.shape
    before, across = _border_matrix(size, len(target))
    rows = across @ source.reshape(size, -1).astype(np.float32)
    lines = rows.reshape(-1, along, 3).swapaxes(0, 1).reshape(along, -1)
    border = _rounded(_blur_matrix(along) @ lines).reshape(along, -1, 3).swapaxes(0, 1)
    target[:before] = border[:before]
    target[before : before + size] = source
    target[before + size :] = border[before:]
    return canvas


def resample(pixels: Pixels, width: int, height: int) -> Pixels:
    """Scale (h, w, 3) uint8 to (height, width, 3) with Pillow's Lanczos filter, as two products with
    matrices: a quarter of Pillow's time for a picture of some hundred pixels, and no rounding in between."""
    lines = pixels.reshape(len(pixels), -1).astype(np.float32)
    columns = np.empty((lines.shape[1], height), np.float32)
    for made, used, weights in _lanczos_bands(len(pixels), height):
        np.matmul(lines[used].T, weights.T, out=columns[:, made])
    # Where lay (h, w, 3) lies (w, 3, height) now, so that nothing needs to be moved for the other axis.
    columns = columns.reshape(pixels.shape[1], -1)
    scaled = np.empty((width, 3 * height), np.float32)
    for made, used, weights in _lanczos_bands(pixels.shape[1], width):
        np.matmul(weights, columns[used], out=scaled[made])
    return np.ascontiguousarray(_rounded(scaled).reshape(width, 3, height).transpose(2, 0, 1))


def _rounded(values: NDArray[np.float32]) -> Pixels:
    """The nearest grey levels; overwrites the values."""
    values += 0.5
    return np.clip(values, 0, 255, out=values).astype(np.uint8)


@lru_cache(maxsize=128)
def _lanczos_bands(old: int, new: int) -> tuple[tuple[slice, slice, NDArray[np.float32]], ...]:
    """The matrix (new, old) that scales one axis, cut into bands, as each row has few values other than zero:
    (rows made, rows used, weights) of each."""
    stretch = max(old / new, 1.0)
    centres = (np.arange(new) + 0.5) * old / new
    first = np.floor(centres - LANCZOS_LOBES * stretch + 0.5).astype(int).clip(0)
    end = np.floor(centres + LANCZOS_LOBES * stretch + 0.5).astype(int).clip(max=old)
    index = first[:, None] + np.arange((end - first).max())
    places = (index + 0.5 - centres[:, None]) / stretch
    values = np.where(index < end[:, None], np.sinc(places) * np.sinc(places / LANCZOS_LOBES), 0.0)
    values /= values.sum(axis=1, keepdims=True)
    bands = []
    for start in range(0, new, BAND):
        rows = slice(start, min(start + BAND, new))
        low, high = int(first[rows].min()), int(end[rows].max())
        weights = np.zeros((rows.stop - start, high - low), np.float32)
        for row in range(start, rows.stop):
            size = end[row] - first[row]
            weights[row - start, first[row] - low : end[row] - low] = values[row, :size]
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


def scaled_size(width: int, height: int, longer_edge: int | None) -> tuple[int, int]:
    """Width and height in pixels, the longer one brought to `longer_edge`; unchanged where that is None."""
    if longer_edge is None:
        return width, height
    scale = longer_edge / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def enlarge(pixels: Pixels, longer_edge: int | None) -> Pixels:
    """Scale (height, width, 3) uint8 smoothly until its longer edge has `longer_edge` pixels."""
    height, width, _ = pixels.shape
    size = scaled_size(width, height, longer_edge)
    if size == (width, height):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def grid(pictures: Sequence[Pixels], columns: int | None = None) -> Pixels:
    """Lay pictures of one size out row by row; cells left over are white.

    Args:
        pictures: N arrays (height, width, 3) uint8.
        columns: pictures in a row; by default the smallest number that makes no more rows than columns.

    Returns:
        (rows * height, columns * width, 3) uint8; the picture itself where N is 1.
    """
    if len(pictures) == 1:
        return pictures[0]
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    height, width, _ = pictures[0].shape
    sheet = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = picture
    return sheet


def encode_jpeg(pixels: Pixels) -> bytes:
    """A JPEG file of (height, width, 3) uint8, at quality 90."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def encode_webp(pixels: Pixels) -> bytes:
    """A lossy WebP file of (height, width, 3) uint8, at quality 85 and the fastest method."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", quality=85, method=0)
    return file.getvalue()


def encode_gif(pictures: Sequence[Pixels], longer_edge: int | None = None) -> bytes:
    """An endless animation of (height, width, 3) uint8 pictures; FRAME_MS each, END_FRAME_MS the first and
    the last. They share 256 colours, found in an octree of them all, in a fiftieth of the time that median
    cut takes for each picture.

    Args:
        pictures: of one size.
        longer_edge: they are scaled to it, as `enlarge` does.
    """
    colours = Image.fromarray(np.concatenate(pictures)).quantize(256, Image.Quantize.FASTOCTREE)
    frames = [
        Image.fromarray(enlarge(picture, longer_edge)).quantize(palette=colours, dither=Image.Dither.NONE)
        for picture in pictures
    ]
    durations = [FRAME_MS] * len(frames)
    durations[0] = durations[-1] = END_FRAME_MS
    file = io.BytesIO()
    frames[0].save(
        file, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=False
    )
    return file.getvalue()
