"""Priors: densities fitted to the latents of the training set, from which new ones are drawn."""

import io
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from app.errors import ModelFolderError
from app.model.latents import COMPONENT_STREAM, Doubles, Latents, normal, random, to_latents
from app.model.prior_networks import DETAIL_LAYERS, FLOW_LAYERS, Details, Flow


class Prior:
    """A mixture of K Gaussians with full covariances, fitted on the encoded training set; or one Gaussian,
    whose draws a flow then carries to where the set lies, and a network of details completes."""

    def __init__(
        self,
        weights: ArrayLike,
        means: ArrayLike,
        cholesky: ArrayLike,
        flow: Flow | None = None,
        details: Details | None = None,
    ) -> None:
        """Make a mixture.

        Args:
            weights: (K,) positive numbers; they are scaled to the sum 1.
            means: (K, L).
            cholesky: (K, L, L) lower triangular factors of the covariances, with positive diagonals.
            flow: of at most L coordinates, with K = 1.
            details: of L coordinates, of which the flow's are the leading ones.

        Raises:
            ValueError: the arrays do not describe such a mixture.
        """
        self.flow, self.details = flow, details
        self.weights, self.means, self.cholesky = (
            np.array(values, dtype=np.float64) for values in (weights, means, cholesky)
        )
        _check_mixture(self.weights, self.means, self.cholesky)
        if flow is not None and (len(self.weights) != 1 or flow.dim > self.means.shape[1]):
            raise ValueError("a flow needs one Gaussian, of no fewer dimensions")
        if details is not None and (
            flow is None or (details.leading, details.dim) != (flow.dim, self.means.shape[1])
        ):
            raise ValueError("details need a flow of the leading coordinates, and a Gaussian of all")
        self.weights /= self.weights.sum()
        self._mean: Doubles = self.weights @ self.means
        self._factor: Doubles = np.asarray(np.linalg.cholesky(self._total_covariance()), dtype=np.float64)
        self._inverse: Doubles = np.asarray(np.linalg.inv(self._factor), dtype=np.float64)

    def _total_covariance(self) -> Doubles:
        """(L, L), by the law of total covariance: within the components plus between their means."""
        offsets = self.means - self._mean
        between = (self.weights[:, None] * offsets).T @ offsets
        within = [
            weight * factor @ factor.T for weight, factor in zip(self.weights, self.cholesky, strict=True)
        ]
        total: Doubles = np.sum(within, axis=0) + between
        return total

    def draw(self, count: int, seed: int, temperature: float = 1.0) -> Latents:
        """Draw (count, L) latents; the first rows do not depend on `count`.

        `temperature` scales the deviation from the mean of the component that was drawn; 0 gives those means.
        With a flow it scales what the flow and the details start from.
        """
        if self.flow is not None:
            points = temperature * normal(count, self.means.shape[1], seed)
            points[:, : self.flow.dim] = self.flow.carry(points[:, : self.flow.dim])
            if self.details is not None:
                points = self.details.complete(points)
            for row in points:
                row[:] = self._mean + self._factor @ row
            return to_latents(points)
        uniform = random(seed, COMPONENT_STREAM).random_sample(count)
        # Without the last bound: what lies above the others is the last component's, whatever the rounding.
        components = np.searchsorted(np.cumsum(self.weights)[:-1], uniform, side="right")
        draws = normal(count, self.means.shape[1], seed)
        # One product per row, and einsum instead of BLAS: the order of a sum must not depend on the count.
        for row, component in zip(draws, components, strict=True):
            deviation = np.einsum("ij,j->i", self.cholesky[component], row)
            row[:] = self.means[component] + temperature * deviation
        return to_latents(draws)

    def principal_directions(self, count: int) -> tuple[Doubles, Doubles]:
        """Unit vectors (count, L) along which the mixture varies most, and its standard deviations there.

        They are the leading eigenvectors of the total covariance, at most L of them, each with the sign that
        makes its largest element positive.
        """
        variances, vectors = np.linalg.eigh(self._total_covariance())
        leading = slice(None, -count - 1, -1)  # eigh sorts upwards
        directions = vectors.T[leading]
        largest = np.abs(directions).argmax(axis=1, keepdims=True)
        directions = directions * np.sign(np.take_along_axis(directions, largest, axis=1))
        return directions, np.sqrt(variances[leading])

    def whiten(self, latents: NDArray[Any]) -> Doubles:
        """(N, L) latents in the coordinates in which the mixture has mean 0 and covariance 1."""
        whitened: Doubles = (latents - self._mean) @ self._inverse.T
        return whitened

    def unwhiten(self, whitened: Doubles) -> Doubles:
        """The inverse of `whiten`."""
        latents: Doubles = whitened @ self._factor.T + self._mean
        return latents


def _check_mixture(weights: Doubles, means: Doubles, cholesky: Doubles) -> None:
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


def read_prior(content: bytes, latent_dim: int) -> Prior:
    """Read a prior.npz with the arrays `weights`, `means` and `cholesky` of Prior and, where it has them,
    those of its flow, called `flow_entry` and so on, and of its details, `details_entry` and so on.

    Raises:
        ModelFolderError: it is not such a file, or is of another latent size.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            flow = details = None
            if "flow_entry" in arrays:
                flow = Flow({name: arrays[f"flow_{name}"] for name in FLOW_LAYERS})
            if "details_entry" in arrays:
                details = Details({name: arrays[f"details_{name}"] for name in DETAIL_LAYERS})
            prior = Prior(arrays["weights"], arrays["means"], arrays["cholesky"], flow, details)
    except Exception as error:  # a damaged archive raises almost anything
        raise ModelFolderError(f"the prior cannot be used ({error}); export the model again") from error
    if prior.means.shape[1] != latent_dim:
        raise ModelFolderError(
            f"the prior has latents of {prior.means.shape[1]} numbers and the model of {latent_dim};"
            " export the model again"
        )
    return prior
