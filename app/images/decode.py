"""Decoding of image files: bytes -> upright RGB arrays of the model's size, by Pillow and libheif."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pi_heif
from PIL import AvifImagePlugin, Image

from app.errors import ImageError, ImageTooLarge, UnreadableImage, UnsupportedImage
from app.images.arrays import ImageArray
from app.images.colour_profiles import profile_mode, to_srgb
from app.images.formats import bmp, gif, heif, jpeg, png, tiff, webp
from app.images.formats.opened import OpenedImage
from app.images.letterbox import fill, scale, scaled_array, size_inside
from app.images.modes import simplified

Opener = Callable[[bytes, int, int], OpenedImage]

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
"""Names of the accepted formats. Every other decoder stays out of reach of what clients send."""

PIXEL_DIVISOR = 2
"""An image of any other format than JPEG may have this many times fewer pixels: at up to 15 bytes a pixel,
which WebP needs while it is decoded, none takes more memory than the largest JPEG, at up to 8."""

LEAST = 128
"""Pixels below which no side of a JPEG is scaled while it is decoded: its last blocks reach over the edge,
which of a narrow image is soon a tenth, and the border is filled from there."""

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
SIDEWAYS = (5, 6, 7, 8)


def configure_pillow() -> None:
    """Set what Pillow and libheif keep for the whole process; a program that reads images calls it once, at
    its start.

    Without it `read_image` gives the same arrays, but refuses what Pillow holds for a bomb, whatever limit
    was asked for; an AVIF takes as many threads as there are processors, a HEIC four, and odd metadata are
    warned of.
    """
    Image.MAX_IMAGE_PIXELS = None  # read_image has its own limit and refuses before decoding
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # the threads that decode are counted by the one who calls
    pi_heif.options.DECODE_THREADS = 1
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
    return read_sized_image(data, width, height, max_pixels)[0]


def read_sized_image(
    data: bytes, width: int, height: int, max_pixels: int
) -> tuple[ImageArray, tuple[int, int]]:
    """The same, and the width and height within it of what is no border."""
    image = _read(data, width, height, max_pixels, enlarge=True)
    return fill(image, width, height), (image.shape[1], image.shape[0])


def read_own_shape(data: bytes, longest: int, max_pixels: int) -> ImageArray:
    """Decode one image as `read_image` does, in its own shape: (height, width, 3) uint8, neither of which is
    more than `longest`. It is not enlarged.

    Raises:
        UnsupportedImage, UnreadableImage, ImageTooLarge.
    """
    return _read(data, longest, longest, max_pixels, enlarge=False)


def _read(data: bytes, width: int, height: int, max_pixels: int, *, enlarge: bool) -> ImageArray:
    """The image, upright, as wide or as high as asked for; or smaller, where it is and shall stay so."""
    if not data:
        raise UnreadableImage("the picture is empty")
    opener = _opener(data)
    if opener is None:
        raise UnsupportedImage(f"not a picture of a supported format ({', '.join(FORMATS)})")
    with _broken_file("the picture's header is damaged"):
        opened = opener(data, max_pixels, max_pixels // PIXEL_DIVISOR)
    target = (height, width) if opened.orientation in SIDEWAYS else (width, height)
    if not enlarge:
        target = min(target[0], max(opened.size)), min(target[1], max(opened.size))
    with _broken_file("the picture is damaged or incomplete"):
        image = _decode_and_scale(opened, *target)
    if opened.orientation in TRANSPOSITIONS:
        image = np.asarray(Image.fromarray(image).transpose(TRANSPOSITIONS[opened.orientation]))
    return image


def _opener(data: bytes) -> Opener | None:
    """The reader of a file's format, told by its first bytes."""
    if data.startswith(jpeg.SIGNATURE):
        return jpeg.open_jpeg
    if data.startswith(png.SIGNATURE):
        return png.open_png
    if webp.is_webp(data):
        return webp.open_webp
    if heif.is_heif(data):
        return heif.open_heif
    if data.startswith(gif.SIGNATURES):
        return gif.open_gif
    if data.startswith(bmp.SIGNATURE):
        return bmp.open_bmp
    return tiff.open_tiff if data.startswith((*tiff.BYTE_ORDERS, *tiff.BIG_SIGNATURES)) else None


@contextmanager
def _broken_file(message: str) -> Iterator[None]:
    """The one place where whatever a decoder raises becomes an error of the image: Pillow's readers raise
    almost anything on broken input, and what they raise ends the reading; nothing is decoded twice, and
    nothing goes on.

    Raises:
        ImageError.
    """
    try:
        yield
    except ImageError:
        raise
    except Image.DecompressionBombError as error:  # only where Pillow is not configured
        raise ImageTooLarge("the picture has more pixels than Pillow allows") from error
    except Exception as error:
        raise UnreadableImage(message) from error


def _decode_and_scale(opened: OpenedImage, width: int, height: int) -> ImageArray:
    """Decode an opened image, scale it to fit inside width x height, convert it to sRGB and lay it on white,
    in this order: each step after the scaling works on a few thousand pixels instead of millions."""
    # A JPEG decoded at the nearest larger scale is a few times cheaper; from twice the scaled size on the
    # result differs from a full decode by less than one grey level on average. Where the scale does not
    # divide its sides, what is decoded is up to a pixel larger than the image: the box is what the image
    # takes of it.
    size, box = opened.size, None
    if opened.draft is not None:
        factor = 2 * min(width / size[0], height / size[1])
        box = opened.draft((max(LEAST, int(factor * size[0])), max(LEAST, int(factor * size[1]))))
    image = simplified(opened.load())
    if box is None:
        size = image.size
    if image.mode in ("L", "CMYK") and profile_mode(opened.profile) != image.mode:
        image = image.convert("RGB")
    inner = size_inside(size, width, height)
    if image.mode == "RGB" and opened.profile is None:
        return scaled_array(image, inner, box)
    return np.asarray(_on_white(to_srgb(scale(image, inner, box), opened.profile)))


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white
