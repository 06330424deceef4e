"""Targets of the prior: posteriors in whitened coordinates, drawn from anew whenever they are learnt."""

from typing import NamedTuple

import torch
from torch import Tensor


class Targets(NamedTuple):
    """Posteriors in whitened coordinates, all or the leading K of them: means (N, K), standard deviations
    (N, L) as the encoder gives them, the matrix (L, K) that whitens, and what the error of each coordinate
    weighs (K,)."""

    means: Tensor
    stds: Tensor
    whiten: Tensor
    weight: Tensor

    def draw(self, rows: Tensor) -> Tensor:
        """A new draw (n, K) from each of the chosen posteriors."""
        stds = self.stds[rows]
        return self.means[rows] + (stds * torch.randn_like(stds)) @ self.whiten

    def draw_batch(self, size: int) -> Tensor:
        """A draw (size, K) from each of so many posteriors, which are chosen with replacement."""
        return self.draw(torch.randint(len(self.means), (size,)))

    def leading(self, count: int) -> "Targets":
        """The same with `count` coordinates at most."""
        weight = self.weight[:count]
        return Targets(self.means[:, :count], self.stds, self.whiten[:, :count], weight / weight.mean())
