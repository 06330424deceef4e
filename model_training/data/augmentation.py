"""Augmentation: small changes of place, shape and colour that leave a photograph of a car one."""

import torch
import torch.nn.functional as F
from torch import Tensor

ZOOM = 0.08
STRETCH = 0.05
SHIFT = 0.035
"""As fractions: of the size, of width against height, and of each side."""

TINT, BRIGHTNESS = 0.05, 0.05
"""Of each channel's values, and in units of the range from black to white."""


def augment(images: Tensor, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """Zoom, stretch, shift, tint and brighten each image by its own small amounts.

    What comes into view at an edge repeats the edge, as fitting to the model's size does.

    Args:
        images: (N, 3, H, W) in 0..1.
        generator: on the images' device; it draws the same numbers whatever the images show.
        strength: scales all amounts.
    """
    count, device = len(images), images.device

    def uniform(*shape: int) -> Tensor:
        return (torch.rand(count, *shape, generator=generator, device=device) * 2 - 1) * strength

    zoom, stretch = 1 + ZOOM * uniform(), 1 + STRETCH * uniform()
    transform = torch.zeros(count, 2, 3, device=device)
    transform[:, 0, 0], transform[:, 1, 1] = zoom * stretch, zoom / stretch
    transform[:, :, 2] = 2 * SHIFT * uniform(2)
    grid = F.affine_grid(transform, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    recoloured = moved * (1 + TINT * uniform(3, 1, 1)) + BRIGHTNESS * uniform(1, 1, 1)
    return recoloured.clamp(0, 1).contiguous(memory_format=torch.channels_last)
