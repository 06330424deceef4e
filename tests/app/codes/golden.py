"""Golden codes: prints those of a model (python -m tests.app.codes.golden MODEL > golden-car-vae-3.json)."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

from app.codes.codec import CodeCodec
from app.codes.content import CodeContent
from app.codes.tables import Floats
from app.codes.wire import to_text
from app.images.arrays import ImageArray
from app.inference.session import SessionSpec, decoder_graph, open_sessions
from app.model.manifest import read_model_folder
from app.model.prior import read_prior

BUDGETS = (16, 24, 35, 64, 94, 128, 192, 255, 400)
SEEDS = (3, 8)
NOISE = 60
"""Grey levels of the patches that are drawn over a car, for a second layer to have something to say."""


def digest_of(content: CodeContent) -> str:
    """A digest of every whole number that a code says."""
    numbers = [np.array([content.setting, content.shape, content.latent.step]), content.latent.values]
    if content.residual is not None:
        numbers += [np.array([content.residual.step]), content.residual.values.ravel()]
    return hashlib.sha256(np.concatenate(numbers).astype("<i8").tobytes()).hexdigest()


def golden_codes(folder: Path) -> list[dict[str, object]]:
    """Codes of cars that the model draws, with patches over them, and the digests of what they say."""
    model = read_model_folder(folder)
    manifest, files = model.manifest, model.manifest.codes
    assert files is not None
    assert manifest.files.prior is not None
    codec = CodeCodec.read(model.content(files.tables), files.tag)
    graph = decoder_graph(manifest)
    (session,) = open_sessions({graph: model.content(manifest.files.decoder)}, SessionSpec("cpu"))
    prior = read_prior(model.content(manifest.files.prior), manifest.latent_dim)

    def decode(latent: Floats) -> ImageArray:
        (images,) = session.run(latent[None])
        image: ImageArray = images[0]
        return image

    found: list[dict[str, object]] = []
    for seed, size in zip(SEEDS, ((3000, 2000), (2000, 3000)), strict=True):
        latent = prior.draw(1, seed)[0]
        image = decode(latent).astype(int)
        height, width, _ = image.shape
        patches = np.random.RandomState(seed).randint(-NOISE, NOISE + 1, (height // 4, width // 4, 3))
        drawn = np.clip(image + patches.repeat(4, axis=0).repeat(4, axis=1), 0, 255).astype(np.uint8)
        codes = codec.pack(drawn, latent, size, decode, BUDGETS)
        found += [{"code": to_text(code), "says": digest_of(codec.unpack(code))} for code in codes]
    return found


if __name__ == "__main__":
    json.dump(golden_codes(Path(sys.argv[1])), sys.stdout, indent=1)
    print()
