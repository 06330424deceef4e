"""Fit of a model's codes (command fit-codes): the tables of both layers from training images."""

import logging
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from app.codes.codec import CodeCodec
from app.codes.latent_layer import LatentLayer
from app.codes.range_coder import TOTAL
from app.codes.residual_layer import ResidualLayer
from app.codes.shape import shape_box, shape_count
from app.codes.tables import CUTS, CodeTables, Floats, Integers
from app.images.arrays import ImageArray
from model_training.backends.base import RefiningBackend
from model_training.compression import latent_fit, residual_fit
from model_training.compression.shapes import find_shapes, shape_frequencies

log = logging.getLogger(__name__)

MOST_IMAGES = 4500
"""Images that are refined; every other one is mirrored."""
RESIDUAL_IMAGES = 1200
FREQUENCY_IMAGES = 300
SETTING_IMAGES = 32
SETTINGS = 128
FEWEST_BYTES, MOST_BYTES = 14.0, 560.0
LATENT_STEPS = range(80)
"""Steps of the latent that are tried alone."""
LAYERED_STEPS = range(40, 60, 8)
"""Those that are tried beneath a residual: few, as each costs whoever packs a run of the decoder."""
RESIDUAL_STEPS = 80
"""Of which every other one is tried above a step of the latent, the even ones and the odd ones in turn."""


class Refined(NamedTuple):
    """Images, their latents as codes hold them, and their shapes."""

    images: ImageArray
    latents: Floats
    shapes: Integers


def refined_images(backend: RefiningBackend, images: ImageArray, seed: int = 0) -> Refined:
    """At most MOST_IMAGES of the images in random order, every other one mirrored, with refined latents."""
    order = np.random.default_rng(seed).permutation(len(images))[:MOST_IMAGES]
    chosen = images[order]
    chosen[1::2] = chosen[1::2, :, ::-1].copy()
    encoded, _ = backend.encode(chosen)
    return Refined(chosen, backend.refine(chosen, encoded), find_shapes(chosen))


def fit_tables(backend: RefiningBackend, data: Refined) -> CodeTables:
    """The tables of a model's codes.

    Raises:
        ValueError: there are too few images.
    """
    tables = _first_layer(backend, data)
    log.info("first layer fitted")
    step = max(step for step in LAYERED_STEPS if step <= 60)
    some = Refined(
        data.images[:RESIDUAL_IMAGES], data.latents[:RESIDUAL_IMAGES], data.shapes[:RESIDUAL_IMAGES]
    )
    residuals = masked_residuals(backend, tables, some, step)
    found = residual_fit.fit_components(residuals)
    tables = replace(tables, basis=found.basis, residual_classes=found.classes)
    layer = ResidualLayer(tables)
    components = np.stack([layer.components(one) for one in residuals[:FREQUENCY_IMAGES]])
    tables = residual_fit.fit_weights(tables, components)
    for _ in range(2):  # magnitudes are chosen by their bits, and their bits follow from the choice
        tables = residual_fit.fit_frequencies(tables, components)
    log.info("second layer fitted")
    return _with_settings(backend, tables, data)


def masked_residuals(backend: RefiningBackend, tables: CodeTables, data: Refined, step: int) -> Floats:
    """(N, height, width, 3) float32: what the decoder misses of images with shapes, 0 on borders."""
    layer = LatentLayer(tables)
    latents = np.stack(
        [layer.restore(layer.quantise(layer.coefficients(one), step)[0]) for one in data.latents]
    )
    residuals = data.images.astype(np.float32) - backend.decode(latents)
    return residuals * inside(data.shapes, backend.width, backend.height)


def inside(shapes: Integers, width: int, height: int) -> Floats:
    """(N, height, width, 1): 1 where an image is no border, else 0."""
    masks = np.zeros((len(shapes), height, width, 1), np.float32)
    for mask, shape in zip(masks, shapes.tolist(), strict=True):
        left, top, right, bottom = shape_box(shape, width, height)
        mask[top:bottom, left:right] = 1
    return masks


def _first_layer(backend: RefiningBackend, data: Refined) -> CodeTables:
    axes = latent_fit.fit_axes(data.latents, latent_fit.decoder_metric(backend, data.latents))
    coefficients = (data.latents - axes.mean) @ axes.forward
    frequencies, centroids = latent_fit.fit_values(coefficients, axes.deviations)
    step = axes.deviations[0] / latent_fit.COARSEST
    width, height = backend.width, backend.height
    components = residual_fit.COMPONENTS
    levels = np.searchsorted(residual_fit.LEVELS, np.arange(residual_fit.REACH + 1), side="right")
    blocks = (width // 8) * (height // 8)
    shape = CUTS, residual_fit.CLASSES, len(residual_fit.LEVELS) + 1
    return CodeTables(
        size=np.array([width, height]),
        shape_frequencies=shape_frequencies(data.shapes, shape_count(width, height)),
        settings=np.array([[0, -1]]),
        setting_bytes=np.zeros(1, np.float32),
        latent_mean=axes.mean.astype(np.float32),
        latent_forward=axes.forward.astype(np.float32),
        latent_inverse=axes.inverse.astype(np.float32),
        latent_step=np.array([step], np.float32),
        latent_classes=latent_fit.class_of(axes.deviations / step, latent_fit.LEAST_RATIO),
        latent_frequencies=frequencies,
        latent_centroids=centroids,
        basis=np.zeros((192, components), np.float32),
        residual_step=np.array([residual_fit.COARSEST_STEP], np.float32),
        residual_classes=np.full((components, blocks), -1),
        own_weights=np.zeros((components, components), np.int64),
        near_weights=np.zeros((components, components), np.int64),
        same_weights=np.zeros((components, 2), np.int64),
        levels=levels,
        residual_frequencies=np.full(shape, TOTAL * 9 // 10),
        tail_frequency=np.array([TOTAL // 2]),
        residual_centroids=np.tile(np.arange(CUTS + 1, dtype=np.float32), (shape[1], 1)),
    )


class _Tried(NamedTuple):
    bytes: float
    error: float
    setting: tuple[int, int]


def _with_settings(backend: RefiningBackend, tables: CodeTables, data: Refined) -> CodeTables:
    """The tables with the settings that no other one beats, evenly from few bytes to many."""
    tried = _try_settings(backend, tables, data)
    best: list[_Tried] = []
    for one in sorted(tried):
        if not best or one.error < best[-1].error:
            best.append(one)
    wanted = np.geomspace(max(FEWEST_BYTES, best[0].bytes), min(MOST_BYTES, best[-1].bytes), SETTINGS)
    sizes = np.array([one.bytes for one in best])
    chosen = sorted({int(np.abs(sizes - size).argmin()) for size in wanted})
    return replace(
        tables,
        settings=np.array([best[i].setting for i in chosen]),
        setting_bytes=sizes[chosen].astype(np.float32),
    )


def _try_settings(backend: RefiningBackend, tables: CodeTables, data: Refined) -> list[_Tried]:
    latents, residuals = LatentLayer(tables), ResidualLayer(tables)
    count = min(SETTING_IMAGES, len(data.shapes))
    images, masks = data.images[:count], inside(data.shapes[:count], backend.width, backend.height)
    fixed = CodeCodec.overhead_bits(tables) + 7
    tried = []
    for step in LATENT_STEPS:
        coefficients = [latents.coefficients(one) for one in data.latents[:count]]
        quantised = [latents.quantise(one, step) for one in coefficients]
        bits = np.array([some for _, some in quantised]) + fixed
        decoded = backend.decode(np.stack([latents.restore(values) for values, _ in quantised]))
        missed = (images - decoded.astype(np.float32)) * masks
        tried.append(_Tried(float(2 + bits.mean() / 8), _error(missed), (step, -1)))
        if step not in LAYERED_STEPS:
            continue
        components = [residuals.components(one) for one in missed]
        for residual_step in range(LAYERED_STEPS.index(step) % 2, RESIDUAL_STEPS, 2):
            layered = [residuals.quantise(one, residual_step) for one in components]
            size = 2 + (bits + [some for _, some in layered]).mean() / 8
            if size > MOST_BYTES * 1.1:
                break
            left = missed - np.stack([residuals.restore(values) for values, _ in layered])
            tried.append(_Tried(float(size), _error(left * masks), (step, residual_step)))
    return tried


def _error(missed: Floats) -> float:
    """Mean error in dB, so that each image counts as in a mean PSNR; less is better."""
    return float(10 * np.log10((missed**2).mean(axis=(1, 2, 3)) + 1e-3).mean())
