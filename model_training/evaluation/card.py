"""Card of a model folder, README.md: its machine-readable head and its figures, made from model.json."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from app.images.arrays import ImageArray
from app.model.manifest import Manifest, read_model_folder
from model_training.backends.onnx_backend import OnnxBackend
from model_training.compression.rate_distortion import through_codes
from model_training.compression.stored import open_codes

CARD = "README.md"
RECONSTRUCTIONS = "reconstructions.jpg"
SHOWN = 8
"""How many reconstructions a card shows; never the photographs themselves."""
CODE_BYTES = 94, 255
ROWS_WITH_CODES = f"in one pass and from codes of {CODE_BYTES[0]} and {CODE_BYTES[1]} bytes"

BEGIN, END = "<!-- figures: made by the command card -->", "<!-- end of figures -->"
HEAD = re.compile(r"\A---\n(.*?\n)---\n", re.DOTALL)
TASK = "unconditional-image-generation"


@dataclass(frozen=True)
class Figure:
    """A row of the table.

    Attributes:
        key: in the metrics of model.json.
        kind: under which hubs of models file it.
        digits: after the decimal point.
        better: 1 where more is better, -1 where less is.
    """

    key: str
    title: str
    kind: str
    digits: int
    better: int


def _likeness(key: str, title: str) -> list[Figure]:
    return [
        Figure(f"{prefix}frechet_{key}", f"Frechet distance of {title}{network}", "frechet", 1, -1)
        for prefix, network in (("", ""), ("second_", ", second network"))
    ] + [
        Figure(f"{prefix}{kind}_{key}", f"{kind} of {title}{network}", kind, 2, 1)
        for prefix, network in (("", ""), ("second_", ", second network"))
        for kind in ("precision", "recall")
    ]


FIGURES = (
    Figure("psnr", "PSNR of reconstructions, dB", "psnr", 2, 1),
    Figure("ssim", "SSIM", "ssim", 3, 1),
    Figure("refined_psnr", "PSNR of refined latents, dB", "psnr", 2, 1),
    Figure("refined_ssim", "SSIM of refined latents", "ssim", 3, 1),
    Figure("ms_ssim", "MS-SSIM", "ms-ssim", 3, 1),
    Figure("ssimulacra2", "SSIMULACRA2", "ssimulacra2", 1, 1),
    Figure("bce", "binary cross entropy, nats", "bce", 0, -1),
    Figure("bits_per_dim", "bits per value, Gaussian bound", "bits_per_dim", 2, -1),
    *_likeness("reconstructions", "reconstructions"),
    *_likeness("fitted_samples", "samples"),
    Figure("prior_frechet_fitted_samples", "Frechet distance, samples to reconstructions", "frechet", 1, -1),
    Figure(
        "second_prior_frechet_fitted_samples",
        "Frechet distance, samples to reconstructions, second network",
        "frechet",
        1,
        -1,
    ),
)


def shown_rows(folder: Path, backend: OnnxBackend, images: ImageArray) -> list[ImageArray]:
    """What a card shows of images (N, height, width, 3) uint8: what they decode to in one pass and, where the
    model has codes, from codes of each of CODE_BYTES."""
    decoded = backend.decode(backend.encode(images)[0])
    if backend.manifest.codes is None:
        return [decoded]
    _, pictures = through_codes(*open_codes(folder), backend, images, CODE_BYTES)
    return [decoded, *pictures]


def write_card(folder: Path, against: Sequence[Path]) -> str:
    """Bring the card of a model folder up to date with its model.json; what was written by hand stays.

    A folder without a card gets one. Of the head, `metrics` and `model-index` are made anew.

    Args:
        against: other model folders, whose figures stand beside.

    Returns:
        the whole card.

    Raises:
        ModelFolderError: a folder is damaged.
        ValueError: the card's head is no YAML, or it has no place for the figures.
    """
    manifest = read_model_folder(folder).manifest
    others = [read_model_folder(other).manifest for other in against]
    path = folder / CARD
    text = path.read_text(encoding="utf-8") if path.is_file() else _new_card(manifest)
    head, body = split_head(text, path)
    if body.count(BEGIN) != 1 or body.count(END) != 1 or body.index(BEGIN) > body.index(END):
        raise ValueError(f"{path} needs a line {BEGIN!r} and below it {END!r}: figures go between them")
    before, rest = body.split(BEGIN)
    made = figure_table([*others, manifest])
    if (folder / RECONSTRUCTIONS).is_file():
        rows = "in one pass" if manifest.codes is None else ROWS_WITH_CODES
        made += f"\n![Reconstructions of photographs it had not seen, {rows}]({RECONSTRUCTIONS})\n"
    body = f"{before}{BEGIN}\n\n{made}\n{END}{rest.split(END)[1]}"
    dumped = yaml.safe_dump(card_head(manifest, head), sort_keys=False, allow_unicode=True, width=110)
    text = f"---\n{dumped}---\n{body}"
    path.write_text(text, encoding="utf-8")
    return text


def split_head(text: str, path: Path) -> tuple[dict[str, Any], str]:
    """The YAML between two lines `---` at the start of a card, empty where there is none, and what follows.

    Raises:
        ValueError: it is no mapping.
    """
    found = HEAD.match(text)
    if found is None:
        return {}, text
    try:
        head = yaml.safe_load(found[1])
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: the head is no YAML: {error}") from error
    if not isinstance(head, dict):
        raise ValueError(f"{path}: the head is no YAML mapping")
    return head, text[found.end() :]


def card_head(manifest: Manifest, written: Mapping[str, Any]) -> dict[str, Any]:
    """The head: what was written by hand, defaults for what was not, and the figures.

    Nothing is guessed of the licence: without one it is `unknown`.
    """
    measured = [figure for figure in FIGURES if figure.key in manifest.metrics]
    pictures = manifest.metrics.get("pictures")
    dataset: dict[str, Any] = {"name": "photographs it was not trained on", "type": "image-folder"}
    if pictures is not None:
        dataset["args"] = {"pictures": round(pictures)}
    metrics = [
        {"type": figure.kind, "name": figure.title, "value": round(manifest.metrics[figure.key], 4)}
        for figure in measured
    ]
    results = [{"task": {"type": TASK}, "dataset": dataset, "metrics": metrics}]
    defaults = {"license": "unknown", "pipeline_tag": TASK, "library_name": "onnx"}
    return {
        **{name: value for name, value in defaults.items() if name not in written},
        **written,
        "metrics": list(dict.fromkeys(figure.kind for figure in measured)),
        "model-index": [{"name": manifest.id, "results": results}] if metrics else [],
    }


def figure_table(manifests: Sequence[Manifest]) -> str:
    """A Markdown table: a row for each figure that the last model has, a column for each model; where several
    have it the best is bold."""
    last = manifests[-1]
    lines = ["| | " + " | ".join(manifest.id for manifest in manifests) + " |"]
    lines.append("| --- |" + " ---: |" * len(manifests))
    for figure in FIGURES:
        if figure.key not in last.metrics:
            continue
        values = [manifest.metrics.get(figure.key) for manifest in manifests]
        cells = ["" if value is None else f"{value:,.{figure.digits}f}" for value in values]
        known = [figure.better * value for value in values if value is not None]
        if len(known) > 1:
            best = cells[[None if v is None else figure.better * v for v in values].index(max(known))]
            cells = [f"**{cell}**" if cell == best else cell for cell in cells]
        lines.append(f"| {figure.title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _new_card(manifest: Manifest) -> str:
    size = manifest.image_size
    trained_on = manifest.data.get("trained_on", "unknown")
    return (
        f"# {manifest.id}\n\nA variational autoencoder: {size.width} x {size.height} RGB pictures to "
        f"{manifest.latent_dim} latent numbers and back, with {manifest.parameters:,} parameters; recipe "
        f"`{manifest.recipe.get('name', 'unknown')}`.\n\n## Quality\n\n{BEGIN}\n{END}\n\n"
        f"## Training data and its terms\n\n{trained_on}\n"
    )
