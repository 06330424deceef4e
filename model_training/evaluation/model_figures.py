"""Figures of a run or of a model folder: what commands measure of its samples."""

from collections.abc import Sequence
from pathlib import Path

from app.images.arrays import ImageArray
from app.model.prior import Prior, read_prior
from model_training.backends.base import Backend
from model_training.evaluation.feature_network import FeatureNetwork
from model_training.evaluation.samples import evaluate_samples
from model_training.run_folder import PRIOR


def fitted_prior(folder: Path, backend: Backend) -> Prior | None:
    """The fitted prior of a run or of a model folder, where it has one."""
    fitted = folder / PRIOR
    return read_prior(fitted.read_bytes(), backend.latent_dim) if fitted.is_file() else None


def sample_figures(
    folder: Path, backend: Backend, images: ImageArray, training: ImageArray, features: Sequence[Path]
) -> dict[str, float]:
    """What samples of a run or of a model folder are worth, by one or two feature networks.

    Args:
        images, training: (N, height, width, 3) uint8, which it was not trained on and which it was.

    Raises:
        ValueError: more than two networks, or see evaluate_samples.
    """
    if len(features) > 2:
        raise ValueError(f"--features takes one or two files, not {len(features)}")
    prior = fitted_prior(folder, backend)
    return evaluate_samples(backend, prior, images, training, *map(FeatureNetwork, features))
