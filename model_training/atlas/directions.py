"""Named directions: what changes in latents of photographs with one attribute, all others equal."""

import logging
from itertools import compress

import numpy as np

from app.images.arrays import ImageArray
from app.model.atlas import Direction
from model_training.atlas.attributes import ATTRIBUTES, MIRRORED, Doubles, measure
from model_training.backends.base import Backend
from model_training.compression.shapes import find_shapes

log = logging.getLogger(__name__)

LEAST_SPREAD = 1e-6
"""Standard deviation of an attribute below which images do not differ in it."""
DECIMALS = 4
"""Of the vectors, so that they are short as JSON: a latent moves by less than what the decoder can show."""


def fit_directions(backend: Backend, images: ImageArray) -> tuple[Direction, ...]:
    """A direction for each attribute that has a name and differs, by images and their mirrored selves.

    Latents are regressed on all attributes together: what a direction changes is the mean latent where its
    attribute is one standard deviation higher and every other one is the same. In whitened coordinates that
    is the likeliest change that makes the difference.

    Raises:
        ValueError: there are too few images.
    """
    if len(images) < 4 * len(ATTRIBUTES):
        raise ValueError(f"{len(images)} images are too few for {len(ATTRIBUTES)} attributes")
    own = measure(images, find_shapes(images))
    sign = np.array([-1.0 if name in MIRRORED else 1.0 for name in ATTRIBUTES])
    latents = np.concatenate(
        [backend.encode(images)[0], backend.encode(np.ascontiguousarray(images[:, :, ::-1]))[0]]
    )
    attributes = np.concatenate([own, own * sign])
    differs = attributes.std(axis=0) > LEAST_SPREAD
    changes = regress(latents.astype(np.float64), attributes[:, differs])
    directions = []
    for attribute, change in zip(compress(ATTRIBUTES.values(), differs), changes, strict=True):
        if not attribute.name:
            continue
        length = float(np.linalg.norm(change))
        log.info("%s, %s to %s: a step of %.3f", attribute.name, attribute.low, attribute.high, length)
        vector = (change / length).round(DECIMALS).astype(np.float32)
        std = round(length * attribute.stretch, DECIMALS)
        directions.append(Direction(vector, std, attribute.name, attribute.low, attribute.high))
    return tuple(directions)


def regress(latents: Doubles, attributes: Doubles) -> Doubles:
    """(K, L): by how much latents (N, L) change with each of attributes (N, K) that rises by one standard
    deviation, the others equal."""
    scaled = (attributes - attributes.mean(axis=0)) / attributes.std(axis=0)
    changes: Doubles = np.linalg.lstsq(scaled, latents - latents.mean(axis=0), rcond=None)[0]
    return changes
