"""Latents as small pictures, and back, both linearly: where convolutions can find what dense layers learn by
heart."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from app.images.arrays import ImageArray

CELL, POOLED, VALUES = 8, 2, 8
"""Small pictures have a cell for so many pixels each way; of pictures made so much smaller, so many principal
components of what a cell holds. From noise of variance 1 coordinates are read with a standard deviation of
0.57; of 12 components, with 0.46, and of 6, with 0.91."""

RIDGE = 1e-6
"""Added to the variances of latents, it decides where there are fewer pictures than coordinates."""


class SmallPictures(nn.Module):
    """What some of the coordinates of whitened latents show, as a small picture."""

    picture: Tensor
    back: Tensor

    def __init__(self, picture: Tensor) -> None:
        """`picture` (K, rows, columns, S): what each coordinate adds; values are scaled to variance 1."""
        super().__init__()
        scaled = picture / picture.flatten(1).square().sum(0).mean().sqrt()
        self.register_buffer("picture", scaled, persistent=False)
        back = torch.linalg.pinv(scaled.flatten(1)).contiguous()
        self.register_buffer("back", back, persistent=False)

    @property
    def coordinates(self) -> int:
        return len(self.picture)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        _, rows, columns, _ = self.picture.shape
        return rows, columns

    @property
    def values(self) -> int:
        """Of a cell."""
        return self.picture.shape[3]

    def show(self, coordinates: Tensor) -> Tensor:
        """Coordinates (N, K) -> pictures (N, S, rows, columns)."""
        shown = (coordinates @ self.picture.flatten(1)).view(-1, *self.picture.shape[1:])
        return shown.permute(0, 3, 1, 2)

    def read(self, pictures: Tensor) -> Tensor:
        """Pictures (N, S, rows, columns) -> the coordinates (N, K) that show what is nearest to them."""
        coordinates: Tensor = pictures.permute(0, 2, 3, 1).flatten(1) @ self.back
        return coordinates


def places(grid: tuple[int, int]) -> Tensor:
    """(1, 2, rows, columns): how far down and how far across each cell is, in -1..1."""
    down, across = (torch.linspace(-1, 1, count) for count in grid)
    return torch.stack(torch.meshgrid(down, across, indexing="ij"))[None]


def show(one: tuple[SmallPictures, Tensor], other: tuple[SmallPictures, Tensor], places: Tensor) -> Tensor:
    """What coordinates (N, K) and others (N, J) show, and each cell's place: (N, 2S + 2, rows, columns)."""
    shown = [pictures.show(coordinates) for pictures, coordinates in (one, other)]
    joined = torch.cat([*shown, places.expand(len(shown[0]), -1, -1, -1)], 1)
    return joined.contiguous(memory_format=torch.channels_last)


def principal_pictures(latents: Tensor, pixels: ImageArray) -> Tensor:
    """What each coordinate of whitened latents adds to a small picture, by least squares.

    Args:
        latents: (N, L).
        pixels: (N, height, width, 3) uint8, the pictures they are of.

    Returns:
        (L, rows, columns, S), the cells' values along their principal components.
    """
    height, width = pixels.shape[1:3]
    rows, columns = max(1, height // CELL), max(1, width // CELL)
    side = CELL // POOLED
    small = torch.cat(
        [
            F.adaptive_avg_pool2d(chunk.permute(0, 3, 1, 2).float() / 255, (rows * side, columns * side))
            for chunk in torch.split(torch.from_numpy(pixels), 1024)
        ]
    )
    cells = F.pixel_unshuffle(small, side).permute(0, 2, 3, 1)
    centred = (latents - latents.mean(0)).double()
    products = centred.T @ centred + RIDGE * len(latents) * torch.eye(latents.shape[1], dtype=torch.float64)
    found = torch.linalg.solve(products, centred.T @ (cells - cells.mean(0)).flatten(1).double())
    added = found.float().view(-1, *cells.shape[1:])
    _, axes = torch.linalg.eigh(torch.einsum("nijc,nijd->cd", added, added))
    pictures: Tensor = (added @ axes.flip(1)[:, :VALUES]).contiguous()
    return pictures
