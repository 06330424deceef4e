"""Priors: distributions fitted to the latents of the training set, from which new latents are drawn."""

import io
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from app.errors import ModelFolderError
from app.model.latents import COMPONENT_STREAM, Doubles, Latents, normal, random, to_latents
from app.model.prior_networks import COARSE_LAYERS, FINE_LAYERS, CoarseGenerator, FineGenerator

COARSE_PREFIX, FINE_PREFIX = "flow_", "details_"
"""What the names of the generators' arrays begin with in prior.npz, a published format."""


class Prior(Protocol):
    """A distribution of latents, and the coordinates that it whitens."""

    @property
    def latent_dim(self) -> int:
        """L, the numbers of a latent."""
        ...

    def draw(self, count: int, seed: int, temperature: float = 1.0) -> Latents:
        """Draw (count, L) latents; the first rows do not depend on `count`.

        `temperature` scales how far they lie from the middle, which 0 gives.
        """
        ...

    def whiten(self, latents: NDArray[Any]) -> Doubles:
        """(N, L) latents in the coordinates in which they have mean 0 and covariance 1."""
        ...

    def unwhiten(self, whitened: Doubles) -> Doubles:
        """The inverse of `whiten`."""
        ...

    def principal_directions(self, count: int) -> tuple[Doubles, Doubles]:
        """Unit vectors (count, L) along which latents vary most, and their standard deviations there: at most
        L of them, each with the sign that makes its largest element positive."""
        ...


class GaussianMixture:
    """A mixture of K Gaussians with full covariances."""

    def __init__(self, weights: ArrayLike, means: ArrayLike, cholesky: ArrayLike) -> None:
        """Make a mixture.

        Args:
            weights: (K,) positive numbers; they are scaled to the sum 1.
            means: (K, L).
            cholesky: (K, L, L) lower triangular factors of the covariances, with positive diagonals.

        Raises:
            ValueError: the arrays do not describe such a mixture.
        """
        self.weights, self.means, self.cholesky = _gaussians(weights, means, cholesky)
        self._whitening = _whitening(self.weights, self.means, self.cholesky)

    @property
    def latent_dim(self) -> int:
        """L, the numbers of a latent."""
        return len(self._whitening.mean)

    def draw(self, count: int, seed: int, temperature: float = 1.0) -> Latents:
        """Draw (count, L) latents; the first rows do not depend on `count`.

        `temperature` scales the deviation from the mean of the component that was drawn; 0 gives those means.
        """
        uniform = random(seed, COMPONENT_STREAM).random_sample(count)
        # Without the last bound: what lies above the others is the last component's, whatever the rounding.
        components = np.searchsorted(np.cumsum(self.weights)[:-1], uniform, side="right")
        draws = normal(count, self.latent_dim, seed)
        # One product per row, and einsum instead of BLAS: the order of a sum must not depend on the count.
        for row, component in zip(draws, components, strict=True):
            deviation = np.einsum("ij,j->i", self.cholesky[component], row)
            row[:] = self.means[component] + temperature * deviation
        return to_latents(draws)

    def whiten(self, latents: NDArray[Any]) -> Doubles:
        """(N, L) latents in the coordinates in which the mixture has mean 0 and covariance 1."""
        return self._whitening.whiten(latents)

    def unwhiten(self, whitened: Doubles) -> Doubles:
        """The inverse of `whiten`."""
        return self._whitening.unwhiten(whitened)

    def principal_directions(self, count: int) -> tuple[Doubles, Doubles]:
        """Eigenvectors of the total covariance and the standard deviations along them, as Prior says."""
        return self._whitening.principal_directions(count)


class GeneratorPrior:
    """One Gaussian whose whitened draws generators carry to where the latents of the training set lie."""

    def __init__(
        self, mean: ArrayLike, cholesky: ArrayLike, coarse: CoarseGenerator, fine: FineGenerator | None = None
    ) -> None:
        """Make a prior.

        Args:
            mean: (L,).
            cholesky: (L, L) lower triangular factor of the covariance, with a positive diagonal.
            coarse: moves the leading coordinates, at most L.
            fine: of L coordinates; gives the trailing ones, which the coarse generator leaves.

        Raises:
            ValueError: the parts do not fit together.
        """
        gaussian = _gaussians([1.0], np.asarray(mean)[np.newaxis], np.asarray(cholesky)[np.newaxis])
        self._whitening = _whitening(*gaussian)
        if coarse.dim > self.latent_dim:
            raise ValueError("a coarse generator needs a Gaussian of no fewer dimensions")
        if fine is not None and (fine.leading, fine.dim) != (coarse.dim, self.latent_dim):
            raise ValueError(
                "a fine generator needs a coarse one of the leading coordinates and a Gaussian of all"
            )
        self.coarse, self.fine = coarse, fine

    @property
    def latent_dim(self) -> int:
        """L, the numbers of a latent."""
        return len(self._whitening.mean)

    def draw(self, count: int, seed: int, temperature: float = 1.0) -> Latents:
        """Draw (count, L) latents; the first rows do not depend on `count`.

        `temperature` scales the noise that the generators start from.
        """
        points = temperature * normal(count, self.latent_dim, seed)
        points[:, : self.coarse.dim] = self.coarse(points[:, : self.coarse.dim])
        if self.fine is not None:
            points = self.fine(points)
        for row in points:  # one by one, as the order of a sum must not depend on the count
            row[:] = self._whitening.mean + self._whitening.factor @ row
        return to_latents(points)

    def whiten(self, latents: NDArray[Any]) -> Doubles:
        """(N, L) latents in the coordinates in which the Gaussian has mean 0 and covariance 1."""
        return self._whitening.whiten(latents)

    def unwhiten(self, whitened: Doubles) -> Doubles:
        """The inverse of `whiten`."""
        return self._whitening.unwhiten(whitened)

    def principal_directions(self, count: int) -> tuple[Doubles, Doubles]:
        """Eigenvectors of the Gaussian's covariance and the standard deviations along them, as Prior says."""
        return self._whitening.principal_directions(count)


class _Whitening:
    """The affine map that gives latents of a mean (L,) and a covariance (L, L) mean 0 and covariance 1."""

    def __init__(self, mean: Doubles, covariance: Doubles) -> None:
        self.mean = mean
        self.factor: Doubles = np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
        self._inverse: Doubles = np.asarray(np.linalg.inv(self.factor), dtype=np.float64)
        self._covariance = covariance

    def whiten(self, latents: NDArray[Any]) -> Doubles:
        whitened: Doubles = (latents - self.mean) @ self._inverse.T
        return whitened

    def unwhiten(self, whitened: Doubles) -> Doubles:
        latents: Doubles = whitened @ self.factor.T + self.mean
        return latents

    def principal_directions(self, count: int) -> tuple[Doubles, Doubles]:
        variances, vectors = np.linalg.eigh(self._covariance)
        leading = slice(None, -count - 1, -1)  # eigh sorts upwards
        directions = vectors.T[leading]
        largest = np.abs(directions).argmax(axis=1, keepdims=True)
        directions = directions * np.sign(np.take_along_axis(directions, largest, axis=1))
        return directions, np.sqrt(variances[leading])


def _gaussians(weights: ArrayLike, means: ArrayLike, cholesky: ArrayLike) -> tuple[Doubles, Doubles, Doubles]:
    """The arguments as float64, the weights scaled to the sum 1.

    Raises:
        ValueError: they do not describe K Gaussians of L dimensions.
    """
    weights, means, cholesky = (np.array(values, dtype=np.float64) for values in (weights, means, cholesky))
    if means.ndim != 2 or 0 in means.shape:
        raise ValueError(f"means must be of shape (K, L), not {means.shape}")
    count, dim = means.shape
    if weights.shape != (count,) or cholesky.shape != (count, dim, dim):
        raise ValueError(
            f"weights {weights.shape}, means {means.shape} and cholesky {cholesky.shape} do not match"
        )
    if not all(np.isfinite(values).all() for values in (weights, means, cholesky)):
        raise ValueError("not all numbers are finite")
    if (weights <= 0).any():
        raise ValueError("not all weights are positive")
    if np.triu(cholesky, 1).any() or (np.diagonal(cholesky, axis1=1, axis2=2) <= 0).any():
        raise ValueError("the factors are not lower triangular with positive diagonals")
    return weights / weights.sum(), means, cholesky


def _whitening(weights: Doubles, means: Doubles, cholesky: Doubles) -> _Whitening:
    """What whitens a mixture. The law of total covariance: within the components plus between their means."""
    mean: Doubles = weights @ means
    offsets = means - mean
    between = (weights[:, None] * offsets).T @ offsets
    within = [weight * factor @ factor.T for weight, factor in zip(weights, cholesky, strict=True)]
    covariance: Doubles = np.sum(within, axis=0) + between
    return _Whitening(mean, covariance)


def read_prior(content: bytes, latent_dim: int) -> Prior:
    """Read the prior that a prior.npz holds.

    The arrays `weights`, `means` and `cholesky` are those of a mixture or, with the layers of generators
    beside them (`flow_entry` and so on of the coarse one, `details_entry` and so on of the fine one), of the
    one Gaussian that these start from.

    Raises:
        ModelFolderError: it is not such a file, or is of another latent size.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            prior = _prior_of(arrays)
    except Exception as error:  # a damaged archive raises almost anything
        raise ModelFolderError(f"the prior cannot be used ({error}); export the model again") from error
    if prior.latent_dim != latent_dim:
        raise ModelFolderError(
            f"the prior has latents of {prior.latent_dim} numbers and the model of {latent_dim};"
            " export the model again"
        )
    return prior


def _prior_of(arrays: Mapping[str, NDArray[Any]]) -> Prior:
    mixture = GaussianMixture(arrays["weights"], arrays["means"], arrays["cholesky"])
    coarse = _layers(arrays, COARSE_PREFIX, COARSE_LAYERS)
    fine = _layers(arrays, FINE_PREFIX, FINE_LAYERS)
    if coarse is None and fine is None:
        return mixture
    if coarse is None:
        raise ValueError("a fine generator needs a coarse one")
    if len(mixture.weights) != 1:
        raise ValueError("generators need one Gaussian")
    generators = CoarseGenerator(coarse), None if fine is None else FineGenerator(fine)
    return GeneratorPrior(mixture.means[0], mixture.cholesky[0], *generators)


def _layers(
    arrays: Mapping[str, NDArray[Any]], prefix: str, names: tuple[str, ...]
) -> dict[str, NDArray[Any]] | None:
    """The layers of one generator, or None where the file has none of it."""
    return {name: arrays[prefix + name] for name in names} if f"{prefix}entry" in arrays else None
