"""Post-filter: a small convolutional network for what both layers of a code give, fitted and exported."""

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

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

CHANNELS = 48
SETTINGS = 8
"""Settings that it is taught on; it is told which one a picture is of."""
IMAGES = 800
STEPS = 1200
BATCH = 16
LEARNING_RATE = 2e-3
WARM_UP = 30


def fit_codes(folder: Path, images: ImageArray) -> CodeFiles:
    """Fit tables and post-filter of an exported model on training images, and record them in its folder.

    Raises:
        ModelFolderError: the folder is damaged.
        ValueError: there are too few images.
    """
    backend = OnnxBackend(folder)
    data = refined_images(backend, images)
    tables = fit_tables(backend, data)
    network = fit_post_filter(backend, tables, data)
    return write_codes(folder, tables, export_post_filter(network, backend.width, backend.height))


class PostFilter(nn.Module):
    """Three convolutions over 2 x 2 pixels at a time, whose result is added; it starts as the identity."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(25, CHANNELS, 3, padding=1)
        self.second = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.last = nn.Conv2d(CHANNELS, 12, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, layers: Tensor, base: Tensor, fineness: Tensor) -> Tensor:
        """(N, height, width, 3) levels of both layers and of the first, (N,) from 0 to 1 -> levels."""
        images = torch.cat([layers, base], dim=3).permute(0, 3, 1, 2) / 255
        small = F.pixel_unshuffle(images, 2)
        plane = fineness.reshape(-1, 1, 1, 1) * torch.ones_like(small[:, :1])
        hidden = F.leaky_relu(self.first(torch.cat([small, plane], dim=1)), 0.1)
        hidden = F.leaky_relu(self.second(hidden), 0.1)
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
    """Pictures of one setting."""

    fineness: float
    layers: Floats
    base: ImageArray
    error: float


def fit_post_filter(
    backend: RefiningBackend, tables: CodeTables, data: Refined, steps: int = STEPS
) -> PostFilter:
    """Teach a network on codes of training images; the same arguments give the same weights."""
    count = min(IMAGES, len(data.shapes))
    target, mask = data.images[:count], inside(data.shapes[:count], backend.width, backend.height)
    samples = _samples(backend, tables, data, target, mask)
    torch.manual_seed(0)
    network, random = PostFilter(), np.random.default_rng(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    for step in range(steps):
        one = samples[step % len(samples)]
        rows = random.integers(0, count, BATCH)
        for group in optimizer.param_groups:
            cosine = 0.5 * (1 + np.cos(np.pi * step / steps))
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / WARM_UP) * cosine
        fineness = torch.full((BATCH,), one.fineness)
        made = network(_tensor(one.layers[rows]), _tensor(one.base[rows]), fineness)
        missed = (made - _tensor(target[rows])) * _tensor(mask[rows])
        loss = missed.square().mean() / one.error
        optimizer.zero_grad()
        loss.backward()
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


def _samples(
    backend: RefiningBackend, tables: CodeTables, data: Refined, target: ImageArray, mask: Floats
) -> list[_Samples]:
    latents, residuals = LatentLayer(tables), ResidualLayer(tables)
    last = len(tables.settings) - 1
    samples = []
    for setting in sorted(set(np.linspace(0, last, SETTINGS).astype(int).tolist())):
        latent_step, residual_step = tables.settings[setting].tolist()
        quantised = [
            latents.quantise(latents.coefficients(one), latent_step)[0] for one in data.latents[: len(target)]
        ]
        base = backend.decode(np.stack([latents.restore(values) for values in quantised]))
        layers = base.astype(np.float32)
        if residual_step >= 0:
            for picture, missed in zip(layers, (target - layers) * mask, strict=True):
                found = residuals.quantise(residuals.components(missed), residual_step)[0]
                picture += residuals.restore(found)
        error = float((((target - layers) * mask) ** 2).mean())
        samples.append(_Samples(setting / max(1, last), layers, base, error + 1e-3))
    log.info("pictures of %d settings made", len(samples))
    return samples


def _tensor(values: ImageArray | Floats) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
