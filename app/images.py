"""Pictures between bytes and arrays: decoded, turned upright, fitted to the model's size; encoded again."""

import io
import math
import struct
import warnings
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFilter,
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

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_TRUECOLOUR = 2
PNG_FILTER_SUB = 1

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
        return np.asarray(_decode_and_fit(image, width, height))
    except PictureError:
        raise
    except Exception as error:
        raise UnreadablePicture("the picture is damaged or incomplete") from error


def _decode_and_fit(image: Image.Image, width: int, height: int) -> Image.Image:
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
    # A JPEG decoded at the nearest larger scale is a few times cheaper; from twice the target on the result
    # differs from a full decode by less than one grey level on average.
    image.draft(None, (2 * box[0], 2 * box[1]))
    image.load()
    scaled = _scale_inside(_resizable(image), *box)
    upright = scaled if turn is None else scaled.transpose(turn)
    return _fill_border(_flatten(upright), width, height)


def fit(image: Image.Image, width: int, height: int) -> Image.Image:
    """Scale an RGB picture to fit inside width x height and fill what is left from its own edges.

    Returns:
        an RGB picture of exactly width x height.
    """
    return _fill_border(_scale_inside(image, width, height), width, height)


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
    scale = min(width / image.width, height / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _flatten(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image.convert("RGB")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white


def _fill_border(image: Image.Image, width: int, height: int) -> Image.Image:
    """Centre a picture on width x height; its edge pixels are replicated outwards and blurred, so that the
    border looks like a photograph and not like a frame."""
    if image.size == (width, height):
        return image
    left, top = (width - image.width) // 2, (height - image.height) // 2
    margins = ((top, height - image.height - top), (left, width - image.width - left), (0, 0))
    canvas = Image.fromarray(np.pad(np.asarray(image), margins, mode="edge"))
    canvas = canvas.filter(ImageFilter.GaussianBlur(BORDER_BLUR))
    canvas.paste(image, (left, top))
    return canvas


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


def encode_png(pixels: Pixels) -> bytes:
    """A PNG file of (height, width, 3) uint8.

    Written here and not by Pillow, whose fastest setting takes four times as long for a picture of the
    model's size: every row gets the filter Sub, which is one NumPy subtraction, and zlib its fastest level.
    """
    height, width, _ = pixels.shape
    flat = pixels.reshape(height, width * 3)
    rows = np.empty((height, 1 + width * 3), np.uint8)
    rows[:, 0] = PNG_FILTER_SUB
    rows[:, 1:4] = flat[:, :3]
    np.subtract(flat[:, 3:], flat[:, :-3], out=rows[:, 4:])
    header = struct.pack(">IIBBBBB", width, height, 8, PNG_TRUECOLOUR, 0, 0, 0)
    data = zlib.compress(rows.data, 1)
    return b"".join(
        (PNG_SIGNATURE, *_png_chunk(b"IHDR", header), *_png_chunk(b"IDAT", data), *_png_chunk(b"IEND", b""))
    )


def _png_chunk(kind: bytes, data: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    return struct.pack(">I", len(data)), kind, data, struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


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


def gif_frame(pixels: Pixels) -> Image.Image:
    """(height, width, 3) uint8 reduced to the 256 colours that suit it best: the costly part of a GIF."""
    return Image.fromarray(pixels).quantize(256, Image.Quantize.MEDIANCUT)


def encode_gif(frames: Sequence[Image.Image]) -> bytes:
    """An endless animation of gif_frame's pictures; FRAME_MS each, END_FRAME_MS the first and the last."""
    durations = [FRAME_MS] * len(frames)
    durations[0] = durations[-1] = END_FRAME_MS
    file = io.BytesIO()
    frames[0].save(
        file, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=False
    )
    return file.getvalue()
