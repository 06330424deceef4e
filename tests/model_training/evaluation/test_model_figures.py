"""Figures of a folder: its fitted prior where it has one, one or two feature networks, bytes of latents."""

from pathlib import Path

import pytest

from app.images.arrays import ImageArray
from model_training.backends.onnx_backend import OnnxBackend
from model_training.evaluation.model_figures import fitted_prior, sample_figures
from tests.tiny_model import write_tiny_model


@pytest.mark.parametrize("prior", [True, False])
def test_a_prior_is_read_where_there_is_one(
    tmp_path: Path, feature_file: Path, cars: ImageArray, other_cars: ImageArray, prior: bool
) -> None:
    folder = write_tiny_model(tmp_path / "tiny-vae" / "1", prior=prior)
    backend = OnnxBackend(folder)
    assert (fitted_prior(folder, backend) is not None) == prior
    figures = sample_figures(folder, backend, other_cars, cars, [feature_file, feature_file])
    assert ("frechet_fitted_samples" in figures) == prior
    assert figures["second_frechet_standard_samples"] == figures["frechet_standard_samples"]
    assert "second_frechet_pictures" not in sample_figures(folder, backend, other_cars, cars, [feature_file])


def test_a_third_network_is_refused(
    tmp_path: Path, feature_file: Path, cars: ImageArray, other_cars: ImageArray
) -> None:
    folder = write_tiny_model(tmp_path / "tiny-vae" / "1")
    with pytest.raises(ValueError, match="one or two files, not 3"):
        sample_figures(folder, OnnxBackend(folder), other_cars, cars, [feature_file] * 3)
