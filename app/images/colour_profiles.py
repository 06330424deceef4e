"""Colour profiles: an image converted from its embedded profile (ICC) to sRGB."""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

MAX_PROFILE_BYTES = 4 * 2**20
"""Largest profile that is looked at; those of printers have one to three megabytes."""
CACHED = 16
"""Profiles kept, with their transforms, at up to five megabytes each: cameras, telephones and painting
programs have about ten between them."""
MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""Colour space of a profile (ICC.1:2022, table 19) -> Pillow's mode of the images it is for."""
SAME = 1
"""Grey levels up to which a profile counts as sRGB itself: there are dozens, which differ by rounding."""

Transform = ImageCms.ImageCmsTransform


def profile_mode(profile: bytes | None) -> str | None:
    """Pillow's mode of the images that a profile is for, read from its header; None if there is none such."""
    if profile is None or not 128 <= int.from_bytes(profile[:4], "big") <= len(profile) <= MAX_PROFILE_BYTES:
        return None
    if profile[36:40] != b"acsp":
        return None
    return MODES.get(profile[16:20].decode("latin-1").rstrip())


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """An image of mode L, RGB, RGBA or CMYK as RGB or RGBA, converted by its profile if that is right for it;
    a grey one by a profile for RGB too, as JPEGs of scanners have it."""
    mode = profile_mode(profile)
    if mode is None or profile is None:
        return _plain(image)
    alpha = image.mode == "RGBA"
    if (mode == "CMYK") != (image.mode == "CMYK"):
        return _plain(image)
    transform = _transform(profile, alpha and mode == "RGB")
    if transform is None:
        return _plain(image)
    if mode == "L":  # a colour image cannot have one
        if image.mode != "L" and not _is_grey(image):
            return _plain(image)
        converted = ImageCms.applyTransform(image.getchannel(0), transform)
        if converted is not None and alpha:
            converted.putalpha(image.getchannel("A"))
    else:
        converted = ImageCms.applyTransform(
            image if mode == image.mode or alpha else _plain(image), transform
        )
    return _plain(image) if converted is None else converted


def _plain(image: Image.Image) -> Image.Image:
    return image if image.mode in ("RGB", "RGBA") else image.convert("RGB")


def _is_grey(image: Image.Image) -> bool:
    array = np.asarray(image)
    return bool((array[..., :1] == array[..., :3]).all())


@lru_cache(maxsize=CACHED)
def _transform(profile: bytes, alpha: bool) -> Transform | None:
    """What converts by a profile; None where nothing changes, or where it is broken."""
    mode = profile_mode(profile)
    assert mode is not None
    source, target = ("RGBA", "RGBA") if alpha else (mode, "RGB")
    try:
        transform = ImageCms.buildTransform(
            ImageCms.getOpenProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), source, target
        )
        return None if mode == "RGB" and _changes_nothing(transform, source) else transform
    except (ImageCms.PyCMSError, OSError, ValueError):  # what Little CMS makes of a broken profile
        return None


def _changes_nothing(transform: Transform, mode: str) -> bool:
    """Whether the colours of a lattice stay as they are."""
    levels = np.arange(0, 256, 17, dtype=np.uint8)
    lattice = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(16, -1, 3)
    image = Image.fromarray(lattice).convert(mode)
    converted = ImageCms.applyTransform(image, transform)
    difference = np.asarray(converted).astype(int) - np.asarray(image)
    return bool(np.abs(difference).max() <= SAME)
