"""`python -m tests.performance.gpu_day.parity`: a model folder on a device beside the same on the CPU."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from app.errors import ModelFolderError, ProviderUnavailable
from app.images.arrays import ImageArray
from app.inference.session import Session, SessionSpec, decoder_graph, encoder_graph, open_sessions
from app.model.manifest import read_model_folder
from model_training.__main__ import CACHE
from model_training.backends.base import Floats
from model_training.data.dataset import SYNTHETIC, load
from model_training.export.parity import ParityError, check_parity

ROWS = 64
BATCH_TOLERANCE = 1e-4
"""A result may depend on what else was in its batch by this part of its largest value."""


class SessionGraphs:
    """A model folder in the sessions that the service would open, in their largest batches."""

    def __init__(self, folder: Path, device: str) -> None:
        """Open both graphs on `cpu` or `cuda`.

        Raises:
            ModelFolderError, ProviderUnavailable.
        """
        model = read_model_folder(folder)
        files, size = model.manifest.files, model.manifest.image_size
        graphs = {
            encoder_graph(model.manifest): model.content(files.encoder),
            decoder_graph(model.manifest): model.content(files.decoder),
        }
        spec = SessionSpec("cuda" if device == "cuda" else "cpu")
        self.encoder, self.decoder = open_sessions(graphs, spec)
        self.width, self.height = size.width, size.height

    def encode(self, images: ImageArray) -> tuple[Floats, Floats]:
        mean, log_variance = _run(self.encoder, images)
        return mean, log_variance

    def decode(self, latents: Floats) -> ImageArray:
        images: ImageArray = _run(self.decoder, latents)[0]
        return images


def _run(session: Session, rows: Any) -> list[Any]:
    parts = np.split(rows, range(session.max_batch_rows, len(rows), session.max_batch_rows))
    runs = [session.run(part) for part in parts]
    return [np.concatenate(output) for output in zip(*runs, strict=True)]


def batch_deviation(graphs: SessionGraphs, images: ImageArray) -> float:
    """How far the latents of images one by one are from those of all at once, over the largest of them."""
    together, _ = graphs.encode(images)
    alone = np.concatenate([graphs.encode(images[i : i + 1])[0] for i in range(len(images))])
    return float(np.abs(alone - together).max() / np.abs(together).max())


def compare(folder: Path, device: str, data: str) -> dict[str, object]:
    """Parity of the device with the CPU, and of batches with single rows.

    Raises:
        ModelFolderError, ProviderUnavailable: there is nothing to compare.
        ParityError: they differ by more than the export may from PyTorch.
    """
    found, expected = SessionGraphs(folder, device), SessionGraphs(folder, "cpu")
    images = load(data, found.width, found.height, CACHE).images[:ROWS]
    parity = check_parity(expected, found, images)
    deviation = batch_deviation(found, images)
    if deviation > BATCH_TOLERANCE:
        raise ParityError(f"a latent depends on its batch by {deviation:.2g} of the largest value")
    return {"provider": found.encoder.provider, **asdict(parity), "batch_deviation": deviation}


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare and write the figures; 1 where they differ."""
    parser = argparse.ArgumentParser(prog="python -m tests.performance.gpu_day.parity", description=__doc__)
    parser.add_argument("--model-dir", type=Path, required=True)
    parser.add_argument("--device", choices=["cuda", "cpu"], required=True)
    parser.add_argument("--data", default=SYNTHETIC, help="images to compare on")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        figures = compare(options.model_dir, options.device, options.data)
    except (ValueError, ModelFolderError, ProviderUnavailable) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    options.out.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
