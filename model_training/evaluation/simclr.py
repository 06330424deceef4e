"""Contrastive training (SimCLR, command fit-features) of the feature network, by features.toml.

Two views of an image are to have similar features and those of different images different ones (Chen et al.
2020). Views are crops, mirror images and changes of colour and light. Nothing in them blurs, and no crop is
enlarged: features that blur leaves alone could not tell a blurred image from a sharp one.
"""

import itertools
import logging
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from app.images.arrays import ImageArray
from model_training.export.onnx_graph import save_graph, trace_graph
from model_training.recipe import FeatureConfig
from model_training.torch_utils import cosine, has_bf16, to_float

log = logging.getLogger(__name__)

DEFAULT_RECIPE = Path(__file__).parent / "features.toml"

CROP = 0.75
"""Sides of a view's crop in those of the image: two crops have a quarter of it in common at least."""

PROJECTION_WIDTH = 128

DECORRELATION_WEIGHT = 0.2
"""Of the decorrelation loss, beside the contrastive one."""

WEIGHT_DECAY = 1e-4
WARM_UP_RATIO = 0.1
"""Fraction of training in which the learning rate rises; in the rest it falls to 0 along a cosine."""


@dataclass(frozen=True)
class FeatureRecipe(FeatureConfig):
    """What, with the images, decides the weights.

    Attributes:
        width, height: image size in pixels.
    """

    width: int
    height: int

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a TOML file.

        Raises:
            ValueError: no such file, or one with unknown or missing settings.
        """
        try:
            values = tomllib.loads(path.read_text())
            return cls(**{**values, "channels": tuple(values["channels"])})
        except (OSError, tomllib.TOMLDecodeError, TypeError, KeyError) as error:
            raise ValueError(f"{path}: {error}") from error


class FeatureExtractor(nn.Module):
    """The network: (N, 3, H, W) float in 0..1 -> features (N, F), standardised over the training images."""

    def __init__(self, recipe: FeatureRecipe) -> None:
        super().__init__()
        stride = recipe.first_stride
        layers: list[nn.Module] = [
            nn.Conv2d(3, recipe.channels[0], 2 * stride, stride=stride, padding=stride // 2, bias=False)
        ]
        for inputs, outputs in itertools.pairwise(recipe.channels):
            layers += [
                nn.BatchNorm2d(inputs),
                nn.ReLU(inplace=True),
                nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=False),
            ]
        layers += [nn.BatchNorm2d(recipe.channels[-1]), nn.ReLU(inplace=True)]
        self.stages = nn.Sequential(*layers)
        self.head = nn.Linear(recipe.channels[-1], recipe.features, bias=False)
        self.scale = nn.BatchNorm1d(recipe.features, affine=False)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.scale(self.head(self.stages(images - 0.5).mean((2, 3))))
        return features

    def stage_maps(self, images: Tensor) -> list[Tensor]:
        """The feature maps that leave each stage, (N, channels, rows, columns), the finest first."""
        maps, values = [], images - 0.5
        for layer in self.stages:
            values = layer(values)
            if isinstance(layer, nn.ReLU):
                maps.append(values)
        return maps


class ProjectionHead(nn.Module):
    """What the loss sees of the features; thrown away afterwards, and with it what the views destroy."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, PROJECTION_WIDTH, bias=False),
            nn.BatchNorm1d(PROJECTION_WIDTH),
            nn.ReLU(inplace=True),
            nn.Linear(PROJECTION_WIDTH, features),
        )

    def forward(self, features: Tensor) -> Tensor:
        return F.normalize(self.layers(features), dim=1)


class FeatureGraph(nn.Module):
    """The network as it is exported: images (N, height, width, 3) uint8 -> features."""

    def __init__(self, network: FeatureExtractor) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network(to_float(images))
        return features


def fit(recipe: FeatureRecipe, images: ImageArray) -> FeatureExtractor:
    """Train on (N, height, width, 3) uint8 images, on the CPU; the recipe's seed decides all draws.

    Raises:
        ValueError: fewer images than a batch has.
    """
    batches_per_epoch = len(images) // recipe.batch_size
    if batches_per_epoch == 0:
        raise ValueError(f"{len(images)} pictures are fewer than the {recipe.batch_size} of a batch")
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    network = FeatureExtractor(recipe)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    projection_head = ProjectionHead(recipe.features)
    weights = [*network.parameters(), *projection_head.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=recipe.learning_rate, weight_decay=WEIGHT_DECAY)
    steps = recipe.epochs * batches_per_epoch
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _learning_rate(step / steps))
    data = torch.from_numpy(images)
    bf16 = has_bf16(torch.device("cpu"))
    for epoch in range(recipe.epochs):
        order = torch.randperm(len(data), generator=generator)
        losses = 0.0
        batches = torch.split(order, recipe.batch_size)[:batches_per_epoch]
        for rows in tqdm(batches, desc=f"epoch {epoch + 1}", disable=None):
            batch = data[rows]
            views = torch.cat([random_view(batch, generator), random_view(batch, generator)])
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                features = network(views)
            features = features.float()
            loss = nt_xent_loss(projection_head(features), recipe.temperature)
            loss = loss + DECORRELATION_WEIGHT * decorrelation_loss(features)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses += loss.item()
        log.info(
            "epoch %d: loss %.3f of ln %d", epoch + 1, losses / batches_per_epoch, 2 * recipe.batch_size - 1
        )
    _recompute_batch_norm(network, data, recipe.batch_size)
    return network.eval()


def random_view(batch: Tensor, generator: torch.Generator) -> Tensor:
    """A crop of each image, in half of the cases mirrored, in another light and slightly other colours.

    Where views differ, features learn to be blind: with all degrees of saturation they took grey cars for
    coloured ones.

    Args:
        batch: (N, H, W, 3) uint8.

    Returns:
        (N, 3, CROP * H, CROP * W) float32, channels last in memory.
    """
    count, height, width = batch.shape[:3]
    rows = _crop_indices(count, height, generator)
    columns = _crop_indices(count, width, generator)
    mirrored = torch.rand(count, 1, generator=generator) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    crops = batch[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    values = to_float(crops).permute(0, 2, 3, 1).flatten(1, 2)

    def around_1(spread: float, channels: int = 1) -> Tensor:
        return 1 + spread * (2 * torch.rand(count, channels, 1, generator=generator) - 1)

    saturation, contrast = around_1(0.4), around_1(0.5)
    light = around_1(0.4) * around_1(0.1, 3)
    colours = contrast * (saturation * torch.eye(3) + (1 - saturation) / 3) * light.mT
    level = (1 - contrast) * values.mean((1, 2), keepdim=True) * light.mT
    changed = torch.baddbmm(level, values, colours).clamp_(0, 1)
    return changed.view(crops.shape).permute(0, 3, 1, 2)


def nt_xent_loss(projections: Tensor, temperature: float) -> Tensor:
    """NT-Xent, the contrastive loss of SimCLR, of (2N, P) unit vectors; rows i and N + i are of one image."""
    count = len(projections) // 2
    similarity = projections @ projections.T / temperature
    similarity.fill_diagonal_(-math.inf)
    partners = torch.arange(2 * count).roll(count)
    return F.cross_entropy(similarity, partners)


def decorrelation_loss(features: Tensor) -> Tensor:
    """Squared correlations of each feature with the others, summed, on average over the features.

    Left alone, a few directions take almost all of the variance; with this term distances count them all
    (Bardes et al. 2022, whose features need not be standardised beforehand).

    Args:
        features: (N, F), standardised.
    """
    matrix = features.T @ features / len(features)
    return (matrix.square().sum() - matrix.diagonal().square().sum()) / len(matrix)


def retrieval_accuracy(network: FeatureExtractor, images: ImageArray, seed: int = 0) -> float:
    """How often the nearest neighbour of an image's view among other views is of the same image.

    Args:
        images: (N, height, width, 3) uint8, which the network was not trained on.
    """
    generator = torch.Generator().manual_seed(seed)
    data = torch.from_numpy(images)
    with torch.inference_mode():
        first, second = (network(random_view(data, generator)) for _ in range(2))
    return float((torch.cdist(first, second).argmin(1) == torch.arange(len(data))).float().mean())


def export_network(network: FeatureExtractor, recipe: FeatureRecipe, path: Path) -> None:
    """Write the ONNX file that `feature_network.FeatureNetwork` reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    example = torch.zeros(2, recipe.height, recipe.width, 3, dtype=torch.uint8)
    save_graph(trace_graph(FeatureGraph(network), (example,), ["pictures"], ["features"]), path)


def _learning_rate(progress: float) -> float:
    """As a fraction of the highest, at a progress from 0 to 1."""
    if progress < WARM_UP_RATIO:
        return progress / WARM_UP_RATIO
    return cosine((progress - WARM_UP_RATIO) / (1 - WARM_UP_RATIO))


def _crop_indices(count: int, size: int, generator: torch.Generator) -> Tensor:
    """(count, CROP * size) consecutive indices, each row from a random start."""
    length = math.ceil(CROP * size)
    starts = torch.randint(size - length + 1, (count, 1), generator=generator)
    return starts + torch.arange(length)


def _recompute_batch_norm(network: FeatureExtractor, data: Tensor, batch_size: int) -> None:
    """Take the statistics of the batch norms anew, over whole images instead of views, in float32."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a plain mean over the batches
    network.train()
    with torch.inference_mode():
        for batch in torch.split(data, batch_size):
            if len(batch) > 1:
                network(to_float(batch))
