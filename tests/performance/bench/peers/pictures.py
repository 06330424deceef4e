"""How a picture is fitted with Pillow's own operations, as its users would."""

import numpy as np
from PIL import Image, ImageFilter

from app.images.arrays import ImageArray
from app.images.letterbox import BORDER_BLUR


def pillow_fit(image: Image.Image, width: int, height: int) -> ImageArray:
    """What `app.images.letterbox.fit` does to an RGB picture: scaled inside width x height, the rest
    filled with the replicated edges, blurred; (height, width, 3) uint8."""
    scale = min(width / image.width, height / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    if size == (width, height):
        return np.asarray(image)
    left, top = (width - image.width) // 2, (height - image.height) // 2
    margins = ((top, height - image.height - top), (left, width - image.width - left), (0, 0))
    canvas = Image.fromarray(np.pad(np.asarray(image), margins, mode="edge"))
    canvas = canvas.filter(ImageFilter.GaussianBlur(BORDER_BLUR))
    canvas.paste(image, (left, top))
    return np.asarray(canvas)
