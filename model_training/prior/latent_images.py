"""Latent images: whitened latents as small images, and back, both linearly, for convolutions to work on."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from app.images.arrays import ImageArray
from model_training.prior_recipe import LatentImagesConfig
from model_training.torch_utils import to_float


class LatentImages(nn.Module):
    """Some of the coordinates of whitened latents as small images of what they show."""

    basis: Tensor
    inverse: Tensor

    def __init__(self, basis: Tensor) -> None:
        """`basis` (K, rows, columns, S): what each coordinate adds; values are scaled to variance 1."""
        super().__init__()
        scaled = basis / basis.flatten(1).square().sum(0).mean().sqrt()
        self.register_buffer("basis", scaled, persistent=False)
        inverse = torch.linalg.pinv(scaled.flatten(1)).contiguous()
        self.register_buffer("inverse", inverse, persistent=False)

    @property
    def coordinates(self) -> int:
        return len(self.basis)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        _, rows, columns, _ = self.basis.shape
        return rows, columns

    @property
    def values(self) -> int:
        """Of a cell."""
        return self.basis.shape[3]

    def to_image(self, coordinates: Tensor) -> Tensor:
        """Coordinates (N, K) -> latent images (N, S, rows, columns)."""
        images = (coordinates @ self.basis.flatten(1)).view(-1, *self.basis.shape[1:])
        return images.permute(0, 3, 1, 2)

    def from_image(self, images: Tensor) -> Tensor:
        """Latent images (N, S, rows, columns) -> the coordinates (N, K) that show what is nearest to them."""
        coordinates: Tensor = images.permute(0, 2, 3, 1).flatten(1) @ self.inverse
        return coordinates


def coordinate_grid(grid: tuple[int, int]) -> Tensor:
    """(1, 2, rows, columns): how far down and how far across each cell is, in -1..1."""
    down, across = (torch.linspace(-1, 1, count) for count in grid)
    return torch.stack(torch.meshgrid(down, across, indexing="ij"))[None]


def stack_images(
    one: tuple[LatentImages, Tensor], other: tuple[LatentImages, Tensor], grid: Tensor
) -> Tensor:
    """The latent images of coordinates (N, K) and of others (N, J), and the coordinate grid, as the channels
    of one: (N, 2S + 2, rows, columns)."""
    images = [parts.to_image(coordinates) for parts, coordinates in (one, other)]
    stacked = torch.cat([*images, grid.expand(len(images[0]), -1, -1, -1)], 1)
    return stacked.contiguous(memory_format=torch.channels_last)


def latent_image_basis(latents: Tensor, images: ImageArray, config: LatentImagesConfig) -> Tensor:
    """What each coordinate of whitened latents adds to a latent image, by least squares.

    Args:
        latents: (N, L).
        images: (N, height, width, 3) uint8, which they are of.

    Returns:
        (L, rows, columns, S), the cells' values along their principal components.
    """
    height, width = images.shape[1:3]
    rows, columns = max(1, height // config.cell), max(1, width // config.cell)
    side = config.cell // config.pooling
    small = torch.cat(
        [
            F.adaptive_avg_pool2d(to_float(chunk), (rows * side, columns * side))
            for chunk in torch.split(torch.from_numpy(images), 1024)
        ]
    )
    cells = F.pixel_unshuffle(small, side).permute(0, 2, 3, 1)
    centred = (latents - latents.mean(0)).double()
    ridge = config.ridge * len(latents) * torch.eye(latents.shape[1], dtype=torch.float64)
    products = centred.T @ centred + ridge
    found = torch.linalg.solve(products, centred.T @ (cells - cells.mean(0)).flatten(1).double())
    added = found.float().view(-1, *cells.shape[1:])
    _, axes = torch.linalg.eigh(torch.einsum("nijc,nijd->cd", added, added))
    basis: Tensor = (added @ axes.flip(1)[:, : config.values]).contiguous()
    return basis
