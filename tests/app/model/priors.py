"""Small priors for tests, their layers, and the files that hold them."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.model.latents import Doubles
from app.model.prior import GaussianMixture, GeneratorPrior
from app.model.prior_networks import CoarseGenerator, FineGenerator

Layers = dict[str, NDArray[Any]]


def make_mixture(dim: int = 3, scale: float = 1.0) -> GaussianMixture:
    """Two Gaussians, the first of three times the weight."""
    random = np.random.RandomState(5)
    factors = np.tril(random.standard_normal((2, dim, dim)) * 0.3) + np.eye(dim)
    return GaussianMixture([3.0, 1.0], random.standard_normal((2, dim)) * scale, factors * scale)


def make_gaussian(dim: int = 3) -> tuple[Doubles, Doubles]:
    """The mean and the factor of one Gaussian."""
    mixture = make_mixture(dim)
    return mixture.means[0], mixture.cholesky[0]


def coarse_layers(dim: int = 2, width: int = 6, scale: float = 0.3) -> Layers:
    """Those of a CoarseGenerator."""
    random = np.random.default_rng(1)
    shapes = {
        "entry": (width, dim),
        "entry_bias": (width,),
        "hidden": (2, width, width),
        "hidden_bias": (2, width),
        "exit": (dim, width),
        "exit_bias": (dim,),
    }
    return {name: random.standard_normal(shape) * scale for name, shape in shapes.items()}


def fine_layers(dim: int = 5, leading: int = 2, scale: float = 0.3) -> Layers:
    """Those of a FineGenerator."""
    random = np.random.default_rng(2)
    shapes = {
        "picture": (dim, 2, 3, 2),
        "entry": (3, 3, 4, 6),
        "entry_bias": (2, 3, 6),
        "first": (2, 3, 3, 6, 6),
        "first_bias": (2, 6),
        "second": (2, 3, 3, 6, 6),
        "second_bias": (2, 6),
        "exit": (3, 3, 6, 2),
        "back": (2, 3, 2, dim - leading),
        "keep": (dim - leading,),
    }
    return {name: random.standard_normal(shape) * scale for name, shape in shapes.items()}


def coarse_prior(dim: int = 3) -> GeneratorPrior:
    """A prior whose generator moves two coordinates."""
    return GeneratorPrior(*make_gaussian(dim), CoarseGenerator(coarse_layers()))


def fine_prior() -> GeneratorPrior:
    """A prior of five coordinates with both generators."""
    return GeneratorPrior(*make_gaussian(5), CoarseGenerator(coarse_layers()), FineGenerator(fine_layers()))


def prior_file(**arrays: Any) -> bytes:
    """A prior.npz of any arrays."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def generator_file(dim: int, coarse: Layers | None = None, fine: Layers | None = None) -> bytes:
    """A prior.npz of one Gaussian and the generators that are given."""
    mean, factor = make_gaussian(dim)
    layers = {f"flow_{name}": values for name, values in (coarse or {}).items()}
    layers |= {f"details_{name}": values for name, values in (fine or {}).items()}
    return prior_file(weights=[1.0], means=[mean], cholesky=[factor], **layers)
