"""A density fitted to the latents of the training set, so that what is drawn from it looks like cars.

The decoder only knows the region of latent space that the encoder uses, and that region is not N(0, I): the
dimensions of the aggregate posterior are correlated (Dai & Wipf 2019). Fitting it afterwards is ex-post
density estimation (Ghosh et al. 2020). A mixture of full-covariance Gaussians is drawn from in microseconds.
"""

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture

from app.images import Pixels
from model_training.codec import Codec

log = logging.getLogger(__name__)

PRIOR = "prior.npz"
COMPONENTS = (1, 2, 4, 8)
SHRINKAGE = 1e-3
"""Added to each variance, it keeps the covariances of small components invertible."""

Doubles = NDArray[np.float64]


def latent_draws(codec: Codec, pixels: Pixels, seed: int) -> Doubles:
    """One draw from the posterior of each picture and of its mirror image, (2N, latent_dim).

    Draws and not means: the decoder was trained on draws, and means vary less where the posterior is wide.
    """
    mirrored = np.concatenate([pixels, pixels[:, :, ::-1]])
    mean, log_variance = codec.encode(np.ascontiguousarray(mirrored))
    noise = np.random.default_rng(seed).standard_normal(mean.shape)
    return mean + np.exp(0.5 * log_variance.astype(np.float64)) * noise


def fit(latents: Doubles, held_out: Doubles, seed: int = 0) -> GaussianMixture:
    """A mixture of full-covariance Gaussians; components are added while held-out latents become likelier.

    Args:
        latents, held_out: (N, latent_dim) and (M, latent_dim) float64.

    Raises:
        ValueError: fewer latents than dimensions.
    """
    count, dimensions = latents.shape
    if count <= dimensions:
        raise ValueError(f"{count} latents are too few to fit a density in {dimensions} dimensions")
    best: tuple[float, GaussianMixture] | None = None
    for components in COMPONENTS:
        if components > 1 and count < 2 * components * dimensions:
            break
        mixture = GaussianMixture(components, covariance_type="full", reg_covar=SHRINKAGE, random_state=seed)
        mixture.fit(latents)
        score = float(mixture.score(held_out))
        log.info("%d components: %.3f nats per held-out latent", components, score)
        if best is not None and score <= best[0]:
            break
        best = (score, mixture)
    assert best is not None
    return best[1]


def save(mixture: GaussianMixture, path: Path) -> None:
    """Write the mixture as plain arrays: weights (K,), means (K, L) float64, cholesky (K, L, L) float32."""
    np.savez(
        path,
        weights=mixture.weights_,
        means=mixture.means_,
        cholesky=np.linalg.cholesky(mixture.covariances_).astype(np.float32),
    )
