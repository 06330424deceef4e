"""Latents: seeds and seeded draws, in pure NumPy.

The same seed gives the same latents on every machine and with every version of NumPy: the counter-based
generator Philox is fixed by its definition (Salmon et al. 2011), and RandomState's way from its bits to
normal deviates is frozen (NEP 19). Everything is computed in float64 and rounded to float32 at the end, which
hides the last bits, in which mathematical libraries differ.
"""

import secrets

import numpy as np
from numpy.typing import NDArray

Latents = NDArray[np.float32]
Doubles = NDArray[np.float64]

MAX_SEED = 2**53 - 1
"""The largest seed: beyond it JavaScript and other readers of JSON lose integers."""

NORMAL_STREAM, COMPONENT_STREAM = 0, 1


def new_seed() -> int:
    """A fresh seed below 2**32, short enough to be typed."""
    return secrets.randbits(32)


def standard_draws(count: int, dim: int, seed: int, temperature: float = 1.0) -> Latents:
    """Draw (count, dim) latents from N(0, temperature**2); the first rows do not depend on `count`."""
    return to_latents(temperature * normal(count, dim, seed))


def posterior_draws(mean: Latents, std: Latents, seed: int) -> Latents:
    """Draw one latent from N(mean, std**2) for each row of (N, L) `mean` and `std`."""
    count, dim = mean.shape
    return to_latents(mean + std * normal(count, dim, seed))


def normal(count: int, dim: int, seed: int) -> Doubles:
    return random(seed, NORMAL_STREAM).standard_normal((count, dim))


def random(seed: int, stream: int) -> np.random.RandomState:
    """A generator of its own for each stream and seed in 0..MAX_SEED: they are the halves of Philox's key."""
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"a seed must be between 0 and {MAX_SEED}")
    return np.random.RandomState(np.random.Philox(key=seed + (stream << 64)))


def to_latents(values: Doubles) -> Latents:
    """Round to float32; what is beyond its range becomes its largest number instead of infinity."""
    limit = np.finfo(np.float32).max
    return np.clip(values, -limit, limit).astype(np.float32)
