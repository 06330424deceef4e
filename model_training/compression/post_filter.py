"""Post-filter: a small convolutional network for what both layers of a code give, fitted and exported."""

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from app.codes.latent_layer import LatentLayer
from app.codes.residual_layer import ResidualLayer
from app.codes.tables import CodeTables, Floats
from app.images.arrays import ImageArray
from app.model.manifest import CodeFiles
from model_training.backends.base import RefiningBackend
from model_training.backends.onnx_backend import OnnxBackend
from model_training.compression.fit import Refined, fit_tables, inside, refined_images
from model_training.compression.stored import write_codes
from model_training.export.onnx_graph import round_to_float16, store_as_float16, trace_graph

log = logging.getLogger(__name__)

CHANNELS = 64
DEPTH = 6
"""Convolutions, each of 3 x 3 on half the image's size."""
SETTINGS = 14
"""Settings that it is taught on, about evenly in the logarithm of their bytes; it is told which one a picture
is of."""
FEWEST_BYTES, MOST_BYTES = 20.0, 420.0
STEPS = 4500
BATCH = 8
"""Pictures of each of the MIXED settings in a step."""
MIXED = 3
LEARNING_RATE = 2e-3
WARM_UP = 50
FLOOR = 1.0
"""Squared grey levels beneath which no error counts as less."""


def fit_codes(folder: Path, images: ImageArray, steps: int = STEPS) -> CodeFiles:
    """Fit tables and post-filter of an exported model on training images, and record them in its folder.

    Raises:
        ModelFolderError: the folder is damaged.
        ValueError: there are too few images.
    """
    backend = OnnxBackend(folder)
    data = refined_images(backend, images)
    tables = fit_tables(backend, data)
    network = fit_post_filter(backend, tables, data, steps)
    return write_codes(folder, tables, export_post_filter(network, backend.width, backend.height))


class PostFilter(nn.Module):
    """Convolutions over 2 x 2 pixels at a time, whose result is added; it starts as the identity."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(25, CHANNELS, 3, padding=1)
        self.inner = nn.ModuleList(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1) for _ in range(DEPTH - 2))
        self.last = nn.Conv2d(CHANNELS, 12, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, layers: Tensor, base: Tensor, fineness: Tensor) -> Tensor:
        """(N, height, width, 3) levels of both layers and of the first, (N,) from 0 to 1 -> levels."""
        images = torch.cat([layers, base], dim=3).permute(0, 3, 1, 2) / 255
        small = F.pixel_unshuffle(images, 2)
        plane = fineness.reshape(-1, 1, 1, 1) * torch.ones_like(small[:, :1])
        hidden = F.leaky_relu(self.first(torch.cat([small - 0.5, plane], dim=1)), 0.1)
        for inner in self.inner:
            hidden = hidden + F.leaky_relu(inner(hidden), 0.1)
        added = F.pixel_shuffle(self.last(hidden), 2)
        return layers + 255 * added.permute(0, 2, 3, 1)


class _Graph(nn.Module):
    """The network as it is served."""

    def __init__(self, network: PostFilter) -> None:
        super().__init__()
        self.network = network

    def forward(self, layers: Tensor, base: Tensor, fineness: Tensor) -> Tensor:
        levels: Tensor = self.network(layers, base, fineness)
        return levels.round().clamp(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class _Samples:
    """Pictures of one setting: what both layers give as float16, to take half of the memory."""

    fineness: float
    layers: NDArray[np.float16]
    base: ImageArray


def fit_post_filter(
    backend: RefiningBackend, tables: CodeTables, data: Refined, steps: int = STEPS
) -> PostFilter:
    """Teach a network on codes of training images, for the best mean PSNR; the same arguments give the same
    weights."""
    target, mask = data.images, inside(data.shapes, backend.width, backend.height)
    samples = _samples(backend, tables, data, mask)
    torch.manual_seed(0)
    network, random = PostFilter(), np.random.default_rng(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    for step in tqdm(range(steps), "post-filter", unit="step", mininterval=5):
        for group in optimizer.param_groups:
            cosine = 0.5 * (1 + np.cos(np.pi * step / steps))
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / WARM_UP) * cosine
        parts: list[list[NDArray[Any]]] = []
        for chosen in random.integers(0, len(samples), MIXED):
            one, rows = samples[chosen], random.integers(0, len(target), BATCH)
            part = [one.layers[rows], one.base[rows], target[rows], mask[rows]]
            if random.random() < 0.5:
                part = [each[:, :, ::-1] for each in part]
            parts.append([*part, np.full(BATCH, one.fineness)])
        layers, base, original, inner, fineness = (
            _tensor(np.concatenate(each)) for each in zip(*parts, strict=True)
        )
        missed = (network(layers, base, fineness) - original) * inner
        loss = torch.log(missed.square().mean(dim=(1, 2, 3)) + FLOOR).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    round_to_float16(network)
    return network.eval()


def export_post_filter(network: PostFilter, width: int, height: int) -> bytes:
    """The network as ONNX: `layers`, `base` and `fineness` as in PostFilter -> `images`, uint8."""
    picture = torch.zeros(2, height, width, 3)
    examples = picture, picture.clone(), torch.zeros(2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*The axis name: N will not be used", category=UserWarning)
        graph = trace_graph(_Graph(network), examples, ["layers", "base", "fineness"], ["images"])
    content: bytes = store_as_float16(graph).SerializeToString()
    return content


def _samples(backend: RefiningBackend, tables: CodeTables, data: Refined, mask: Floats) -> list[_Samples]:
    latents, residuals = LatentLayer(tables), ResidualLayer(tables)
    coefficients = [latents.coefficients(one) for one in data.latents]
    last = len(tables.settings) - 1
    wanted = np.geomspace(FEWEST_BYTES, MOST_BYTES, SETTINGS)
    bases: dict[int, ImageArray] = {}
    samples = []
    for setting in sorted({int(np.abs(tables.setting_bytes - size).argmin()) for size in wanted}):
        latent_step, residual_step = tables.settings[setting].tolist()
        if latent_step not in bases:
            quantised = [latents.quantise(one, latent_step)[0] for one in coefficients]
            bases[latent_step] = backend.decode(np.stack([latents.restore(values) for values in quantised]))
        base = bases[latent_step]
        layers = base.astype(np.float16)
        if residual_step >= 0:
            for picture, original, inner in zip(layers, data.images, mask, strict=True):
                missed = (original - picture.astype(np.float32)) * inner
                found = residuals.quantise(residuals.components(missed), residual_step)[0]
                picture += residuals.restore(found)
        samples.append(_Samples(setting / max(1, last), layers, base))
    log.info("pictures of %d settings made", len(samples))
    return samples


def _tensor(values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
