"""Modes of images: whatever a decoder gives -> 8 bits of grey, RGB, RGBA or CMYK, which scale smoothly."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

SIMPLE = ("L", "RGB", "RGBA", "CMYK")
DEEPEST = 65_535
"""Of integers of 16 bits."""


def simplified(image: Image.Image) -> Image.Image:
    """The image in one of the modes in SIMPLE; RGBA where anything of it is transparent."""
    if image.mode == "La":
        image = image.convert("LA")
    if "transparency" in image.info or image.mode in ("LA", "PA", "RGBa"):
        return image.convert("RGBA")
    if image.mode in SIMPLE:
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype(np.uint32) // (DEEPEST // 255)).astype(np.uint8))
    if image.mode in ("I", "F"):
        return grey_levels(np.asarray(image))
    if image.mode == "LAB":
        return _from_lab(image)
    return image.convert("RGB")


def grey_levels(values: NDArray[Any]) -> Image.Image:
    """Numbers of any range as a grey image: what stays within 0 to 1, 8 bits or 16 bits is taken for that."""
    numbers = np.nan_to_num(values.astype(np.float64), nan=0, posinf=0, neginf=0)
    highest = float(numbers.max())
    white = next((top for top in (1.0, 255.0, float(DEEPEST)) if highest <= top), 2.0**32 - 1)
    return Image.fromarray(np.rint((numbers * (255 / white)).clip(0, 255)).astype(np.uint8))


def _from_lab(image: Image.Image) -> Image.Image:
    """CIELab under D50, as TIFF has it (TIFF 6.0, section 23)."""
    transform = ImageCms.buildTransform(
        ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
    )
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None
    return converted
