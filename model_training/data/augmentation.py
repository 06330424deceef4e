"""Small changes to training pictures that leave a photograph of a car one."""

import torch
import torch.nn.functional as F
from torch import Tensor

ZOOM = 0.08
STRETCH = 0.05
SHIFT = 0.035
"""As fractions: of the size, of width against height, and of each side."""

TINT, BRIGHTNESS = 0.05, 0.05
"""Of each channel's values, and in units of the range from black to white."""


def augment(pictures: Tensor, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """Zoom, stretch, shift, tint and brighten each picture by its own small amounts.

    What comes into view at an edge repeats the edge, as the fit of pictures does.

    Args:
        pictures: (N, 3, H, W) in 0..1.
        generator: on the pictures' device; it draws the same numbers however the pictures look.
        strength: scales all amounts.
    """
    count, device = len(pictures), pictures.device

    def uniform(*shape: int) -> Tensor:
        return (torch.rand(count, *shape, generator=generator, device=device) * 2 - 1) * strength

    zoom, stretch = 1 + ZOOM * uniform(), 1 + STRETCH * uniform()
    transform = torch.zeros(count, 2, 3, device=device)
    transform[:, 0, 0], transform[:, 1, 1] = zoom * stretch, zoom / stretch
    transform[:, :, 2] = 2 * SHIFT * uniform(2)
    places = F.affine_grid(transform, list(pictures.shape), align_corners=False)
    moved = F.grid_sample(pictures, places, padding_mode="border", align_corners=False)
    recoloured = moved * (1 + TINT * uniform(3, 1, 1)) + BRIGHTNESS * uniform(1, 1, 1)
    return recoloured.clamp(0, 1).contiguous(memory_format=torch.channels_last)
