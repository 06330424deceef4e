"""python docs/figures.py [--val IMAGES]: the figures of the README, of the shipped model.

Without images it makes that of codes, on cars that the model draws, and writes the measured rates into
documents. Originals are left out of the others: the photographs that the model was made with may not be
shown.
"""

import argparse
import math
import re
import tempfile
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from app.codes.wire import to_text
from app.commands.model import open_compressor
from app.images.arrays import ImageArray
from app.images.other_formats.compare import in_other_formats
from app.images.png import encode_png
from app.model.default_model import default_model_dir
from app.model.manifest import read_model_folder
from app.model.prior import read_prior
from model_training.__main__ import main as command
from model_training.compression.rate_distortion import Curve, Rates

DOCS = Path(__file__).parent
README, RATES = DOCS.parent / "README.md", DOCS / "rate-distortion.json"
TABLES = {README: (35, 94, 128, 255, 400, 600), DOCS / "placeholders.md": (24, 35, 64, 94)}
"""Documents with a table of the measured rates, and its bytes."""
TABLE = re.compile("(?<=<!-- rates -->\n).*(?=<!-- end of rates -->)", re.DOTALL)
ADDRESS = re.compile(r"(?<=localhost:8000/c/)[\w-]+(?=\.webp\?)")
PHOTOGRAPHIC = ("reconstructions", "samples-standard", "samples-fitted", "interpolations")
"""Kept as JPEG, which for them is a quarter of PNG."""

CARS = (5, 22, 45, 52)
"""Seeds of the cars whose codes are shown."""
BUDGETS = (94, 255)
ENLARGEMENT = 2
GAP, LINE = 8, 20
"""Pixels between pictures, and of a line of text."""


def remake(validation: str) -> None:
    """Draw every figure that takes images anew and put it in the place of the old one."""
    with tempfile.TemporaryDirectory() as scratch:
        drawn = Path(scratch)
        model, rates = str(default_model_dir()), str(RATES)
        for arguments in (
            ["rate-distortion", model, "--data", validation, "--out", rates],
            ["plot", model, "--data", validation, "--rates", rates, "--no-originals", "--out", scratch],
        ):
            if command(arguments) != 0:
                raise SystemExit(1)
        for name in PHOTOGRAPHIC:
            with Image.open(drawn / f"{name}.png") as figure:
                figure.convert("RGB").save(DOCS / f"{name}.jpg", quality=90)
        (drawn / "rate-distortion.png").replace(DOCS / "rate-distortion.png")


def codes_figure() -> tuple[Image.Image, str]:
    """Cars that the model draws, as codes and as WebP files of at most the same bytes, with the texts of the
    shortest codes; and the first of these."""
    folder = read_model_folder(default_model_dir())
    manifest = folder.manifest
    assert manifest.files.prior is not None
    prior = read_prior(folder.content(manifest.files.prior), manifest.latent_dim)
    compressor = open_compressor(default_model_dir())
    rows, texts = [], []
    for seed in CARS:
        car = compressor.decompressor.decode(prior.draw(1, seed)[0])
        row = [("drawn by the model", car)]
        height, width, _ = car.shape
        (webp,) = in_other_formats(car, (0, 0, width, height), BUDGETS, ["webp"])
        for budget, file in zip(BUDGETS, webp.renditions, strict=True):
            packed = compressor.compress(encode_png(car), budget)
            assert file is not None
            row += [(f"code: {len(packed.code)} bytes", packed.image)]
            row += [(f"WebP: {len(file.data)} bytes", file.image)]
            if budget == BUDGETS[0]:
                texts.append(to_text(packed.code))
        rows.append(row)
    return _laid_out(rows, texts), texts[0]


def _laid_out(rows: list[list[tuple[str, ImageArray]]], texts: list[str]) -> Image.Image:
    height, width, _ = rows[0][0][1].shape
    width, height = width * ENLARGEMENT, height * ENLARGEMENT
    step = width + GAP, height + 2 * LINE + 2 * GAP
    size = len(rows[0]) * step[0] - GAP, len(rows) * step[1] - GAP
    figure = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(figure)
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    caption = ImageFont.truetype(str(fonts / "DejaVuSans.ttf"), 13)
    for place, (row, text) in enumerate(zip(rows, texts, strict=True)):
        top = place * step[1]
        for column, (words, image) in enumerate(row):
            shown = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
            figure.paste(shown, (column * step[0], top))
            draw.text((column * step[0], top + height + 2), words, "black", caption)
        fitting = ImageFont.truetype(str(fonts / "DejaVuSansMono.ttf"), size[0] / len(text) / 0.603)
        draw.text((0, top + height + LINE), text, "#555", fitting)
    return figure


def updated(document: Path) -> str:
    """A document of TABLES with the table that the measured rates ask for. Formats that have no file so small
    are left out."""
    sizes = TABLES[document]
    curves = [curve for curve in Rates.load(RATES).curves if not curve.bare]
    rates = {curve.name: [_psnr(curve, size) for size in sizes] for curve in curves}
    best = np.max(list(rates.values()), axis=0)
    lines = [["", *map(str, sizes)], ["---"] * (1 + len(sizes))]
    for name, figures in rates.items():
        shown = [f"{figure:.1f}" if math.isfinite(figure) else "-" for figure in figures]
        bold = [f"**{text}**" if figures[i] == best[i] else text for i, text in enumerate(shown)]
        lines += [[name, *bold]] if np.isfinite(figures).any() else []
    return TABLE.sub("".join(f"| {' | '.join(cells)} |\n" for cells in lines), document.read_text())


def _psnr(curve: Curve, size: int) -> float:
    """dB at so many bytes, between two points on the line through them; -inf beyond both ends. Codes have
    the point of a budget, which they never exceed, and beyond their last one none."""
    budgets = {point.setting: point.psnr for point in curve.points}
    if f"{size} bytes" in budgets:
        return budgets[f"{size} bytes"]
    sizes = [point.bytes for point in curve.points]
    if not sizes[0] <= size <= sizes[-1]:
        return -math.inf
    return float(np.interp(math.log(size), np.log(sizes), [point.psnr for point in curve.points]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--val", help="folder of images that the model was not trained on")
    images = parser.parse_args().val
    figure, code = codes_figure()
    figure.save(DOCS / "codes.jpg", quality=90, subsampling=0)
    if images is not None:
        remake(images)
    for document in TABLES:
        document.write_text(updated(document))
    README.write_text(ADDRESS.sub(code, README.read_text()))
