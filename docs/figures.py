"""python docs/figures.py --val IMAGES: the figures of the README, of the shipped model.

Originals are left out of them: the photographs that the model was made with may not be shown.
"""

import argparse
import tempfile
from pathlib import Path

from PIL import Image

from app.model.default_model import default_model_dir
from model_training.__main__ import main as command

DOCS = Path(__file__).parent
PHOTOGRAPHIC = ("reconstructions", "samples-standard", "samples-fitted", "interpolations")
"""Kept as JPEG, which for them is a quarter of PNG."""


def remake(validation: str) -> None:
    """Draw every figure anew and put it in the place of the old one."""
    with tempfile.TemporaryDirectory() as scratch:
        drawn = Path(scratch)
        model, rates = str(default_model_dir()), str(DOCS / "rate-distortion.json")
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--val", required=True, help="folder of images that the model was not trained on")
    remake(parser.parse_args().val)
