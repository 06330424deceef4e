"""BMP files."""

from PIL import BmpImagePlugin, Image

from app.images.decompression_bombs import image_file
from app.images.formats.opened import OpenedImage, check_size

SIGNATURE = b"BM"


def open_bmp(data: bytes, _: int, max_pixels: int) -> OpenedImage:
    """Read the header.

    Raises:
        UnreadableImage, ImageTooLarge.
    """
    image = BmpImagePlugin.BmpImageFile(image_file(data))
    check_size(*image.size, max_pixels, "BMP")

    def load() -> Image.Image:
        image.load()
        return image

    return OpenedImage("BMP", image.size, load)
