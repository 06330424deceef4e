"""Pictures of a trained model: loss curve, reconstructions, samples of both priors, interpolations."""

import json
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from app.images.arrays import ImageArray
from app.model.interpolation import even_lambdas, interpolate
from app.model.latents import standard_draws
from app.model.prior import Prior
from model_training.backends.base import Backend

matplotlib.use("Agg")

from matplotlib import pyplot as plt

SCALE = 2
COLUMNS = 8
FRAMES = 9


def loss_curve(metrics: Path, target: Path) -> None:
    """Training and validation loss over the epochs, with its two parts and the validation PSNR.

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


def reconstructions(backend: Backend, pixels: ImageArray, target: Path, *, originals: bool) -> None:
    """Rows of reconstructions from the mean, each below its originals where those may be shown."""
    shown = pixels[: 3 * COLUMNS]
    decoded = backend.decode(backend.encode(shown)[0])
    rows: list[ImageArray] = []
    for start in range(0, len(shown), COLUMNS):
        if originals:
            rows.append(_row(shown[start : start + COLUMNS]))
        rows.append(_row(decoded[start : start + COLUMNS]))
    _save(np.concatenate(rows), target)


def samples(backend: Backend, prior: Prior | None, target: Path, *, seed: int = 0) -> None:
    """Pictures decoded from random latents: of the fitted prior, or without one of N(0, I)."""
    count = 4 * COLUMNS
    latents = prior.draw(count, seed, 1.0) if prior else standard_draws(count, backend.latent_dim, seed, 1.0)
    _save(_grid(backend.decode(latents)), target)


def interpolations(backend: Backend, pixels: ImageArray, target: Path) -> None:
    """Each row goes from one picture to another by lambda from 0 to 1 in equal steps."""
    mean, _ = backend.encode(pixels[:12])
    lambdas = even_lambdas(FRAMES)
    rows = [interpolate(mean[i : i + 2], lambdas, "linear", None) for i in range(0, len(mean) - 1, 2)]
    _save(np.concatenate([_row(backend.decode(latents)) for latents in rows]), target)


def _row(pictures: ImageArray) -> ImageArray:
    """Side by side, filled up with white to COLUMNS (FRAMES for longer rows)."""
    missing = max(0, COLUMNS - len(pictures))
    blank: ImageArray = np.full((missing, *pictures.shape[1:]), 255, dtype=np.uint8)
    return np.concatenate([*pictures, *blank], axis=1)


def _grid(pictures: ImageArray) -> ImageArray:
    return np.concatenate([_row(pictures[i : i + COLUMNS]) for i in range(0, len(pictures), COLUMNS)])


def _save(pixels: ImageArray, target: Path) -> None:
    image = Image.fromarray(pixels)
    image.resize((image.width * SCALE, image.height * SCALE), Image.Resampling.LANCZOS).save(
        target, optimize=True
    )
