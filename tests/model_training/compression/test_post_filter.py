"""Post-filter: the identity at first, nearer to the originals when it is taught, the same as ONNX."""

import numpy as np
import torch

from app.images.arrays import ImageArray
from model_training.compression.fit import fit_tables, refined_images
from model_training.compression.post_filter import PostFilter, export_post_filter, fit_post_filter
from model_training.compression.stored import run_filter
from tests.model_training.compression.conftest import Blocks


def test_it_starts_as_the_identity() -> None:
    layers, base = torch.rand(2, 1, 16, 24, 3) * 255
    assert torch.equal(PostFilter()(layers, base, torch.tensor([0.5])), layers)


def test_what_it_learns_is_exported(cars: ImageArray) -> None:
    backend = Blocks()
    data = refined_images(backend, cars)
    network = fit_post_filter(backend, fit_tables(backend, data), data, steps=60)
    content = export_post_filter(network, 24, 16)
    assert len(content) < 400_000
    base = backend.decode(backend.encode(cars[:8])[0]).astype(np.float32)
    run = run_filter(content)
    made = np.stack([run(one, one, 0.4) for one in base])
    with torch.inference_mode():
        levels = network(torch.from_numpy(base), torch.from_numpy(base), torch.full((8,), 0.4))
    assert np.abs(made - levels.clamp(0, 255).numpy()).max() < 0.51
    assert ((made.astype(np.float32) - cars[:8]) ** 2).mean() < ((base - cars[:8]) ** 2).mean()
