"""Plots of a model: loss, reconstructions, samples of both priors, interpolations, rate and distortion."""

import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from app.images.arrays import ImageArray
from app.model.interpolation import even_lambdas, interpolate
from app.model.latents import standard_draws
from app.model.prior import Prior
from model_training.backends.base import Backend
from model_training.compression.rate_distortion import Curve

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.ticker import ScalarFormatter

ENLARGEMENT = 2
COLUMNS = 8
FRAMES = 9
BYTE_TICKS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048)


def plot_loss(metrics: Path, target: Path) -> None:
    """Training and validation loss over the epochs, with its KL divergence and the PSNR.

    Args:
        metrics: the metrics.jsonl of a run.

    Raises:
        ValueError: no such file, or nothing in it yet.
    """
    lines = metrics.read_text().splitlines() if metrics.is_file() else []
    if not lines:
        raise ValueError(f"no finished epoch in {metrics}")
    records = [json.loads(line) for line in lines]
    epochs = [record["epoch"] for record in records]
    figure, panels = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    for panel, key, title in (
        (panels[0], "total", "loss = reconstruction + KL (nats per picture)"),
        (panels[1], "kl", "KL divergence (nats per picture)"),
        (panels[2], "psnr", "PSNR (dB)"),
    ):
        validation = "validation_loss" if key == "total" else f"validation_{key}"
        panel.plot(epochs, [record[key] for record in records], label="training", linewidth=1)
        panel.plot(epochs, [record[validation] for record in records], label="validation", linewidth=1)
        panel.set(title=title, xlabel="epoch")
        panel.grid(alpha=0.3)
    low, high = np.percentile([r[k] for r in records for k in ("total", "validation_loss")], [0, 97])
    panels[0].set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
    panels[0].legend()
    figure.savefig(target, dpi=110)
    plt.close(figure)


def plot_reconstructions(backend: Backend, images: ImageArray, target: Path, *, originals: bool) -> None:
    """Rows of reconstructions from the mean, each below its originals where those may be shown."""
    shown = images[: 3 * COLUMNS]
    decoded = backend.decode(backend.encode(shown)[0])
    rows: list[ImageArray] = []
    for start in range(0, len(shown), COLUMNS):
        if originals:
            rows.append(_row(shown[start : start + COLUMNS]))
        rows.append(_row(decoded[start : start + COLUMNS]))
    _save(np.concatenate(rows), target)


def plot_rows(rows: Sequence[ImageArray], target: Path) -> None:
    """Rows of images (N, height, width, 3) uint8, one below the other."""
    _save(np.concatenate([_row(images) for images in rows]), target)


def plot_samples(backend: Backend, prior: Prior | None, target: Path, *, seed: int = 0) -> None:
    """Images decoded from random latents: of the fitted prior, or without one of N(0, I)."""
    count = 4 * COLUMNS
    latents = prior.draw(count, seed, 1.0) if prior else standard_draws(count, backend.latent_dim, seed, 1.0)
    _save(_grid(backend.decode(latents)), target)


def plot_interpolations(backend: Backend, images: ImageArray, target: Path) -> None:
    """Linear paths between the latents of two images each, a row for a path, lambda from 0 to 1."""
    mean, _ = backend.encode(images[:12])
    lambdas = even_lambdas(FRAMES)
    rows = [interpolate(mean[i : i + 2], lambdas, "linear", None) for i in range(0, len(mean) - 1, 2)]
    _save(np.concatenate([_row(backend.decode(latents)) for latents in rows]), target)


def plot_rate_distortion(ours: Curve, others: Sequence[Curve], target: Path) -> None:
    """PSNR and SSIM over the bytes of an image; bare curves are dashed, in the colour of the one before."""
    figure, panels = plt.subplots(1, 2, figsize=(13, 4.6), layout="constrained")
    for panel, key, title in ((panels[0], "psnr", "PSNR (dB)"), (panels[1], "ssim", "SSIM")):
        colour = 0
        for curve in (ours, *others):
            colour += not curve.bare
            panel.plot(
                [point.bytes for point in curve.points],
                [getattr(point, key) for point in curve.points],
                "o--" if curve.bare else "o-",
                color=f"C{colour - 1}",
                alpha=0.45 if curve.bare else 1,
                label=curve.name,
                linewidth=2.4 if curve is ours else 1.2,
                markersize=3,
            )
        panel.set(title=title, xlabel="bytes per picture", xscale="log")
        panel.set_xticks(BYTE_TICKS)
        panel.xaxis.set_major_formatter(ScalarFormatter())
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].legend()
    figure.savefig(target, dpi=110)
    plt.close(figure)


def _row(images: ImageArray) -> ImageArray:
    """Side by side, filled up with white to COLUMNS; more than that make a longer row."""
    missing = max(0, COLUMNS - len(images))
    blank: ImageArray = np.full((missing, *images.shape[1:]), 255, dtype=np.uint8)
    return np.concatenate([*images, *blank], axis=1)


def _grid(images: ImageArray) -> ImageArray:
    return np.concatenate([_row(images[i : i + COLUMNS]) for i in range(0, len(images), COLUMNS)])


def _save(grid: ImageArray, target: Path) -> None:
    image = Image.fromarray(grid)
    size = image.width * ENLARGEMENT, image.height * ENLARGEMENT
    image.resize(size, Image.Resampling.LANCZOS).save(target, optimize=True, quality=90)
