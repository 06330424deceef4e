"""Plots: each shows what it is given, at the size that follows."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.images.arrays import ImageArray
from app.model.prior import GaussianMixture
from model_training.backends.base import Floats
from model_training.compression.rate_distortion import Curve, Point
from model_training.evaluation.plots import (
    COLUMNS,
    ENLARGEMENT,
    FRAMES,
    plot_interpolations,
    plot_loss,
    plot_rate_distortion,
    plot_reconstructions,
    plot_rows,
    plot_samples,
)

HEIGHT, WIDTH = 16, 24


class Grey:
    """A backend whose latent is the mean grey level, and whose images have that one."""

    width, height, latent_dim = WIDTH, HEIGHT, 1

    def encode(self, images: ImageArray) -> tuple[Floats, Floats]:
        mean = images.mean(axis=(1, 2, 3), dtype=np.float32)[:, None]
        return mean, np.zeros_like(mean)

    def decode(self, latents: Floats) -> ImageArray:
        levels = latents.round().clip(0, 255).astype(np.uint8)[:, :, None, None]
        return np.broadcast_to(levels, (len(latents), HEIGHT, WIDTH, 3))


def stripes(count: int) -> ImageArray:
    """Images of which half the columns are black and the others of a grey level of their own."""
    images = np.zeros((count, HEIGHT, WIDTH, 3), dtype=np.uint8)
    images[:, :, WIDTH // 2 :] = (100 + np.arange(count, dtype=np.uint8))[:, None, None, None]
    return images


def cells(path: Path) -> ImageArray:
    """The images of a plot, (rows, columns, height, width, 3), at their own size."""
    with Image.open(path) as plot:
        assert plot.width % (WIDTH * ENLARGEMENT) == plot.height % (HEIGHT * ENLARGEMENT) == 0
        small = plot.resize((plot.width // ENLARGEMENT, plot.height // ENLARGEMENT), Image.Resampling.BOX)
    rows, columns = small.height // HEIGHT, small.width // WIDTH
    return np.asarray(small).reshape(rows, HEIGHT, columns, WIDTH, 3).swapaxes(1, 2)


def middles(path: Path) -> list[list[int]]:
    """The grey level in the middle of each image of a plot."""
    levels: list[list[int]] = cells(path)[:, :, HEIGHT // 2, WIDTH // 2 + 4, 0].tolist()
    return levels


def test_reconstructions_stand_below_their_originals(tmp_path: Path) -> None:
    images = stripes(COLUMNS + 3)
    plot_reconstructions(Grey(), images, tmp_path / "plot.png", originals=True)
    levels = middles(tmp_path / "plot.png")
    blank = [255] * (COLUMNS - 3)
    assert levels[0] == [100 + i for i in range(COLUMNS)]
    assert levels[2] == [100 + i for i in range(COLUMNS, COLUMNS + 3)] + blank
    for originals, reconstructions in (levels[:2], levels[2:]):
        for original, reconstruction in zip(originals, reconstructions, strict=True):
            assert original == reconstruction == 255 or abs(reconstruction - original / 2) <= 1


def test_rows_stand_one_below_the_other(tmp_path: Path) -> None:
    images = stripes(COLUMNS)
    plot_rows([images, images[::-1]], tmp_path / "plot.png")
    levels = middles(tmp_path / "plot.png")
    assert levels == [[100 + i for i in range(COLUMNS)], [100 + i for i in reversed(range(COLUMNS))]]


def test_originals_that_may_not_be_shown_are_left_out(tmp_path: Path) -> None:
    plot_reconstructions(Grey(), stripes(3 * COLUMNS + 5), tmp_path / "plot.png", originals=False)
    levels = middles(tmp_path / "plot.png")
    assert len(levels) == 3
    assert max(map(max, levels)) < 100


def test_samples_are_of_the_prior_or_else_of_the_standard_normal(tmp_path: Path) -> None:
    prior = GaussianMixture([1.0], [[77.0]], [[[1e-3]]])
    plot_samples(Grey(), prior, tmp_path / "fitted.png")
    plot_samples(Grey(), None, tmp_path / "standard.png")
    assert middles(tmp_path / "fitted.png") == [[77] * COLUMNS] * 4
    assert 0 < np.max(middles(tmp_path / "standard.png")) < 6


def test_a_row_of_interpolations_leads_evenly_from_one_image_to_the_next(tmp_path: Path) -> None:
    levels = np.array([0, 80, 240, 40, 9], dtype=np.uint8)
    images = np.broadcast_to(levels[:, None, None, None], (5, HEIGHT, WIDTH, 3))
    plot_interpolations(Grey(), images, tmp_path / "plot.png")
    assert middles(tmp_path / "plot.png") == [
        [10 * i for i in range(FRAMES)],
        [240 - 25 * i for i in range(FRAMES)],
    ]


def test_the_rate_distortion_plot_shows_every_curve(tmp_path: Path) -> None:
    ours = Curve("ours", [Point("", 32, 18, 0.5, 0.9), Point("", 64, 20, 0.6, 0.9)])
    points = [Point("", 128, 17, 0.4, 0.9), Point("", 700, 25, 0.8, 0.9)]
    plot_rate_distortion(
        ours, [Curve("other", points), Curve("bare", points, bare=True)], tmp_path / "two.png"
    )
    plot_rate_distortion(ours, [], tmp_path / "one.png")
    blue, orange = (0x1F, 0x77, 0xB4), (0xFF, 0x7F, 0x0E)
    for name, colours in (("one", [blue]), ("two", [blue, orange])):
        with Image.open(tmp_path / f"{name}.png") as plot:
            plotted = np.asarray(plot.convert("RGB"))
        for half in np.array_split(plotted, 2, axis=1):
            seen = {colour for colour in (blue, orange) if (half == colour).all(axis=2).sum() > 50}
            assert seen == set(colours)


def test_the_loss_plot_shows_training_and_validation(tmp_path: Path) -> None:
    records = [
        {"epoch": i, "total": 9 - i, "validation_loss": 10 - i, "kl": i, "validation_kl": i + 1, "psnr": i}
        | {"validation_psnr": i - 1}
        for i in range(1, 5)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    plot_loss(tmp_path / "metrics.jsonl", tmp_path / "loss.png")
    with Image.open(tmp_path / "loss.png") as plot:
        plotted = np.asarray(plot.convert("RGB"))
    for panel in np.array_split(plotted, 3, axis=1):
        for colour in ((0x1F, 0x77, 0xB4), (0xFF, 0x7F, 0x0E)):
            assert (panel == colour).all(axis=2).sum() > 30


@pytest.mark.parametrize("text", [None, ""])
def test_a_run_without_a_finished_epoch_has_no_loss_to_plot(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(ValueError, match=r"no finished epoch in .*metrics\.jsonl"):
        plot_loss(tmp_path / "metrics.jsonl", tmp_path / "loss.png")
