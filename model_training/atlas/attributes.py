"""Attributes: what can be measured of an image of a car without knowing anything else about it."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.codes.shape import shape_box
from app.codes.tables import Integers
from app.images.arrays import ImageArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

CELL = 8
"""Pixels a side of the cells whose edges are counted by their angle."""
ANGLES = 9

Region = tuple[float, float, float, float]
"""Top, bottom, left and right as shares of the part of an image that is no border."""

PAINT: Final[Region] = (0.45, 0.72, 0.25, 0.75)
WINDOWS: Final[Region] = (0.18, 0.36, 0.3, 0.7)
BACKGROUND: Final[Region] = (0, 0.12, 0, 1)
GROUND: Final[Region] = (0.9, 1, 0, 1)
LEFT: Final[Region] = (0.3, 0.75, 0.1, 0.45)
RIGHT: Final[Region] = (0.3, 0.75, 0.55, 0.9)
GROUND_LEFT: Final[Region] = (0.85, 1, 0, 0.4)
GROUND_RIGHT: Final[Region] = (0.85, 1, 0.6, 1)


@dataclass(frozen=True)
class Attribute:
    """What is measured, and how it is said.

    Attributes:
        name, low, high: of the direction, and of its two ends; "" for what is measured only so that the
            other directions leave it as it is.
        stretch: how far a step goes, in standard deviations of photographs. What is one value of few pixels
            moves by one; a shape is spread over much of the latent, of which a line finds a part.
        weight: how much a difference in it keeps two cars apart on the map.
    """

    name: str
    low: str
    high: str
    stretch: float = 1.0
    weight: float = 0.5


ATTRIBUTES: Final = {
    "paint_light": Attribute("Paint", "dark", "light", weight=1.0),
    "paint_red": Attribute("Paint", "green", "red", 1.3, weight=1.5),
    "paint_yellow": Attribute("Paint", "blue", "yellow", weight=1.5),
    "background_light": Attribute("Background", "dark", "bright"),
    "ground_light": Attribute("Ground", "dark", "bright"),
    "surroundings_yellow": Attribute("Surroundings", "cold", "warm", 1.5),
    "light_side": Attribute("Light", "from the left", "from the right", 1.3),
    "windows_light": Attribute("Windows", "dark", "bright"),
    "height": Attribute("Shape", "low", "tall", 2.5, weight=1.0),
    "facing": Attribute("Facing", "right", "left", 3.0, weight=1.5),
    "ground_side": Attribute("", "", ""),
}
"""In the order in which they are shown."""
MIRRORED: Final = ("light_side", "facing", "ground_side")
"""What changes its sign in a mirrored image."""


def measure(images: ImageArray, shapes: Integers) -> Doubles:
    """(N, len(ATTRIBUTES)): the attributes of images (N, height, width, 3) uint8 of known shapes (N,).

    Lightness and colours are those of Oklab (Ottosson 2020).
    """
    found = np.zeros((len(images), len(ATTRIBUTES)))
    _, height, width, _ = images.shape
    for row, image, shape in zip(found, images, shapes.tolist(), strict=True):
        left, top, right, bottom = shape_box(shape, width, height)
        lab = oklab(image[top:bottom, left:right])
        paint, background, ground = (_mean(lab, region) for region in (PAINT, BACKGROUND, GROUND))
        values = {
            "paint_light": paint[0],
            "paint_red": paint[1],
            "paint_yellow": paint[2],
            "background_light": background[0],
            "ground_light": ground[0],
            "surroundings_yellow": (background[2] + ground[2]) / 2,
            "light_side": _mean(lab, RIGHT)[0] - _mean(lab, LEFT)[0],
            "windows_light": _mean(lab, WINDOWS)[0],
            "height": np.log((bottom - top) / (right - left)),
            "ground_side": _mean(lab, GROUND_RIGHT)[0] - _mean(lab, GROUND_LEFT)[0],
            "facing": 0.0,
        }
        row[:] = [values[name] for name in ATTRIBUTES]
    found[:, list(ATTRIBUTES).index("facing")] = facing(images)
    return found


def facing(images: ImageArray) -> Doubles:
    """(N,): which way cars face, positive to the left: the direction in which the angles of edges differ most
    between images and their mirrored selves.

    Its sign comes from the bonnet: above the end of a car that it is at there is less to see.
    """
    own, mirrored = edges(images), edges(images[:, :, ::-1])
    odd = (own - mirrored) / 2
    _, vectors = np.linalg.eigh(odd.T @ odd)
    score: Doubles = odd @ vectors[:, -1]
    change = np.abs(np.diff(images.astype(np.float32).mean(axis=3), axis=2))
    upper = change[:, : change.shape[1] // 3]
    half = upper.shape[2] // 2
    bonnet = upper[:, :, -half:].mean(axis=(1, 2)) - upper[:, :, :half].mean(axis=(1, 2))
    signed: Doubles = score * np.sign(score @ bonnet)
    return signed


def edges(images: ImageArray) -> Doubles:
    """(N, cells * ANGLES): how strong edges of each angle are in each cell (Dalal & Triggs 2005)."""
    count, height, width, _ = images.shape
    rows, columns = height // CELL, width // CELL
    found = np.zeros((count, rows, columns, ANGLES), np.float32)
    for histogram, image in zip(found, images, strict=True):
        light = image[: rows * CELL, : columns * CELL].astype(np.float32).mean(axis=2)
        down, across = np.gradient(light)
        strength = np.hypot(down, across)
        place = np.mod(np.arctan2(down, across), np.pi) / np.pi * ANGLES
        lower = np.floor(place).astype(np.int64)
        share = place - lower
        for angle in range(ANGLES):
            weight = (lower % ANGLES == angle) * (1 - share) + ((lower + 1) % ANGLES == angle) * share
            cells = (strength * weight).reshape(rows, CELL, columns, CELL)
            histogram[..., angle] = cells.sum(axis=(1, 3))
    norm = np.sqrt((found**2).sum(axis=3, keepdims=True))
    scaled = np.sqrt(found / (norm + norm.mean(axis=(1, 2), keepdims=True) / 2 + 1e-6))
    rows_of_cells: Doubles = scaled.reshape(count, -1).astype(np.float64)
    return rows_of_cells


def oklab(image: ImageArray) -> Doubles:
    """(height, width, 3) uint8 sRGB -> lightness from 0 to 1, green to red, blue to yellow."""
    encoded = image.astype(np.float64) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    lab: Doubles = np.cbrt(linear @ _TO_CONES.T) @ _TO_LAB.T
    return lab


_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def _mean(lab: Doubles, region: Region) -> Doubles:
    height, width, _ = lab.shape
    top, bottom, left, right = region
    rows = slice(int(top * height), max(int(top * height) + 1, int(np.ceil(bottom * height))))
    columns = slice(int(left * width), max(int(left * width) + 1, int(np.ceil(right * width))))
    mean: Doubles = lab[rows, columns].mean(axis=(0, 1))
    return mean
