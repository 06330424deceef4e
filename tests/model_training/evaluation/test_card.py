"""Card of a model folder: its head as hubs of models read it, its figures as model.json has them."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard

from app.model.manifest import Manifest, read_model_folder, write_manifest
from model_training.backends.onnx_backend import OnnxBackend
from model_training.compression.rate_distortion import through_codes
from model_training.compression.stored import open_codes
from model_training.evaluation.card import (
    BEGIN,
    CARD,
    END,
    FIGURES,
    RECONSTRUCTIONS,
    figure_table,
    shown_rows,
    write_card,
)
from tests.tiny_model import random_images, write_tiny_model

SHIPPED = sorted(Path("models/car-vae").iterdir())


def with_metrics(folder: Path, **metrics: float) -> Manifest:
    manifest = dataclasses.replace(read_model_folder(folder).manifest, metrics=metrics)
    write_manifest(folder, manifest)
    return manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    written = write_tiny_model(tmp_path / "tiny-vae" / "2", version=2)
    with_metrics(written, pictures=40.0, psnr=21.25, frechet_reconstructions=3.0, close_pixels=0.1)
    return written


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    written = write_tiny_model(tmp_path / "tiny-vae" / "1")
    with_metrics(written, psnr=20.5, frechet_reconstructions=2.96, ssim=0.5)
    return written


def test_a_folder_without_a_card_gets_one_that_hubs_read(folder: Path) -> None:
    write_card(folder, [])
    card = ModelCard.load(folder / CARD)
    assert card.data.license == "unknown"
    assert card.data.pipeline_tag == "unconditional-image-generation"
    assert card.data.metrics == ["psnr", "frechet"]
    assert card.data.model_name == "tiny-vae/2"
    results = [(result.metric_type, result.metric_value) for result in card.data.eval_results]
    assert results == [("psnr", 21.25), ("frechet", 3.0)]
    assert card.data.eval_results[0].dataset_args == {"pictures": 40}
    assert card.text.lstrip().startswith("# tiny-vae/2\n")


def test_what_was_written_by_hand_stays(folder: Path) -> None:
    head = "license: other\nlicense_name: research-only\ndatasets:\n- stanford-cars\nmetrics:\n- old\n"
    (folder / CARD).write_text(f"---\n{head}---\n# My car\n\n{BEGIN}\nold\n{END}\n\nNo badges.\n")
    text = write_card(folder, [])
    assert text == (folder / CARD).read_text()
    assert text == write_card(folder, []), "made twice it is the same"
    card = ModelCard.load(folder / CARD)
    assert (card.data.license, card.data.license_name) == ("other", "research-only")
    assert card.data.datasets == ["stanford-cars"]
    assert card.data.metrics == ["psnr", "frechet"]
    assert card.text.lstrip().startswith("# My car\n")
    assert card.text.endswith("\nNo badges.\n")
    assert "old" not in card.text


def test_models_stand_side_by_side_and_the_better_figure_is_bold(folder: Path, earlier: Path) -> None:
    text = write_card(folder, [earlier])
    assert "| | tiny-vae/1 | tiny-vae/2 |\n| --- | ---: | ---: |\n" in text
    assert "| PSNR of reconstructions, dB | 20.50 | **21.25** |" in text
    assert "| Frechet distance of reconstructions | **3.0** | **3.0** |" in text  # as far as it is shown
    assert "| SSIM" not in text  # which this model was not measured by
    table = figure_table([read_model_folder(path).manifest for path in (folder, earlier)])
    assert "| SSIM |  | 0.500 |" in table


def test_reconstructions_are_shown_where_there_are_some(folder: Path) -> None:
    assert RECONSTRUCTIONS not in write_card(folder, [])
    (folder / RECONSTRUCTIONS).touch()
    assert f"]({RECONSTRUCTIONS})" in write_card(folder, [])


def test_a_card_shows_one_pass_and_what_codes_keep(folder: Path, tmp_path: Path) -> None:
    images = random_images(2)
    backend = OnnxBackend(folder)
    decoded = backend.decode(backend.encode(images)[0])
    (alone,) = shown_rows(folder, backend, images)
    assert np.array_equal(alone, decoded)
    coding = write_tiny_model(tmp_path / "tiny-vae" / "3", version=3, codes=True)
    rows = shown_rows(coding, OnnxBackend(coding), images)
    expected = through_codes(*open_codes(coding), OnnxBackend(coding), images, (94, 255))[1]
    assert len(rows) == 3
    for row, found in zip(rows[1:], expected, strict=True):
        assert np.array_equal(row, found)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("# My car\n", "needs a line"),
        (f"# My car\n{END}\n{BEGIN}\n", "needs a line"),
        (f"---\nlicense: [\n---\n{BEGIN}\n{END}\n", "the head is no YAML"),
        (f"---\n- license\n---\n{BEGIN}\n{END}\n", "no YAML mapping"),
    ],
)
def test_a_card_without_a_place_for_figures_is_left_alone(folder: Path, text: str, complaint: str) -> None:
    (folder / CARD).write_text(text)
    with pytest.raises(ValueError, match=complaint):
        write_card(folder, [])
    assert (folder / CARD).read_text() == text


@pytest.mark.parametrize("model", SHIPPED, ids=lambda path: path.name)
def test_the_cards_of_shipped_models_say_what_their_manifests_say(model: Path) -> None:
    card, manifest = ModelCard.load(model / CARD), read_model_folder(model).manifest
    assert card.data.license == "other"
    assert card.data.license_name == "non-commercial-research"
    assert card.data.datasets
    assert card.data.pipeline_tag == "unconditional-image-generation"
    assert card.data.model_name == manifest.id
    assert len({figure.key for figure in FIGURES}) == len(FIGURES)
    found = {result.metric_name: result.metric_value for result in card.data.eval_results}
    expected = {
        figure.title: round(manifest.metrics[figure.key], 4)
        for figure in FIGURES
        if figure.key in manifest.metrics
    }
    assert found == expected
    assert {"psnr", "ssim", "ssimulacra2", "frechet"} <= set(card.data.metrics)
    assert figure_table([manifest]).splitlines()[2].split("|")[1] in card.text
