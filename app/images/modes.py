"""Modes of images: whatever a decoder gives -> 8 bits of grey, RGB, RGBA or CMYK, which scale smoothly."""

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
        return Image.fromarray(_grey(np.asarray(image).astype(np.float64)))
    if image.mode == "LAB":
        return _from_lab(image)
    return image.convert("RGB")


def _grey(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Numbers of any range as grey levels: what stays within 0 to 1, 8 bits or 16 bits is taken for that."""
    highest = float(np.nan_to_num(values, nan=0, posinf=0).max())
    white = next((top for top in (1.0, 255.0, float(DEEPEST)) if highest <= top), 2.0**32 - 1)
    levels: NDArray[np.uint8] = np.rint(np.nan_to_num(values / white * 255).clip(0, 255)).astype(np.uint8)
    return levels


def _from_lab(image: Image.Image) -> Image.Image:
    """CIELab under D50, as TIFF has it (TIFF 6.0, section 23)."""
    transform = ImageCms.buildTransform(
        ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
    )
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None
    return converted
