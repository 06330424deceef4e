"""Decoding of image files: bytes -> upright RGB arrays of the model's size, by Pillow."""

import warnings

import numpy as np
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

from app.errors import ImageError, ImageTooLarge, UnreadableImage, UnsupportedImage
from app.images.arrays import ImageArray
from app.images.decompression_bombs import image_file, screen
from app.images.letterbox import LONGEST_BY_MATRIX, fit, scale_inside

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
"""What can be decoded at a smaller scale; a camera's MPO is a JPEG with more images behind it."""
PIXEL_DIVISOR = 2
"""An image of any other format may have this many times fewer pixels: at up to 15 bytes a pixel, which WebP
needs while it is decoded, none takes more memory than the largest JPEG, at up to 8."""
MAX_SIDE = 65_535
"""Longest side of an image, which is a JPEG's: Pillow takes memory for every row, however short."""

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
"""EXIF orientation -> the operation that turns the image upright (CIPA DC-008, table 6)."""


def configure_pillow() -> None:
    """Set what Pillow keeps for the whole process; a program that reads images calls it once, at its start.

    Without it `read_image` gives the same arrays, but refuses what Pillow holds for a bomb, whatever limit
    was asked for; an AVIF takes as many threads as there are processors, and odd metadata are warned of.
    """
    Image.MAX_IMAGE_PIXELS = None  # read_image has its own limit and refuses before decoding
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # the threads that decode are counted by the one who calls
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # odd but readable metadata


def read_image(data: bytes, width: int, height: int, max_pixels: int) -> ImageArray:
    """Decode one image and fit it to the model's size.

    Args:
        data: a file in one of FORMATS; of an animation the first frame is taken.
        width, height: the model's image size in pixels.
        max_pixels: the most pixels the header of a JPEG may announce; of any other format, that divided by
            PIXEL_DIVISOR. Checked before anything is decoded.

    Returns:
        (height, width, 3) uint8, RGB.

    Raises:
        UnsupportedImage, UnreadableImage, ImageTooLarge.
    """
    if not data:
        raise UnreadableImage("the picture is empty")
    screen(data, max_pixels // PIXEL_DIVISOR)
    try:
        image = Image.open(image_file(data), formats=FORMATS)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnsupportedImage(f"not a picture of a supported format ({', '.join(FORMATS)})") from error
    except Image.DecompressionBombError as error:  # only where Pillow is not configured
        raise ImageTooLarge("the picture has more pixels than Pillow allows") from error
    except Exception as error:  # Pillow's readers raise almost anything on broken input
        raise UnreadableImage("the picture's header is damaged") from error
    if max(image.size) > MAX_SIDE:
        raise ImageTooLarge(
            f"the picture has {image.width} x {image.height} pixels; no side may be longer than {MAX_SIDE}"
        )
    limit = max_pixels if image.format in SCALED_FORMATS else max_pixels // PIXEL_DIVISOR
    if image.width * image.height > limit:
        raise ImageTooLarge(
            f"the picture has {image.width} x {image.height} pixels;"
            f" at most {limit} pixels are allowed in a {image.format}"
        )
    try:
        return _decode_and_fit(image, width, height)
    except ImageError:
        raise
    except Exception as error:
        raise UnreadableImage("the picture is damaged or incomplete") from error


def _decode_and_fit(image: Image.Image, width: int, height: int) -> ImageArray:
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
        smaller = scale_inside(smaller, *box)
    return fit(_flatten(smaller if turn is None else smaller.transpose(turn)), width, height)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(EXIF_ORIENTATION, 1))
    except Exception:  # a broken EXIF block says nothing about the image
        return 1


def _resizable(image: Image.Image) -> Image.Image:
    """The image in a mode that scales smoothly: L, RGB, or RGBA where it has transparency."""
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBa"):
        return image.convert("RGBA")
    if image.mode.startswith("I"):
        sixteen_bit = np.asarray(image.convert("I")).clip(0, 65535)
        return Image.fromarray((sixteen_bit // 257).astype(np.uint8))
    return image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGB")


def _flatten(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image if image.mode == "RGB" else image.convert("RGB")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white
