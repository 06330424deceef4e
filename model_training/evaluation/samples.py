"""Evaluation of samples: likeness to photographs, nearness to training images, smooth interpolations."""

import numpy as np

from app.images.arrays import ImageArray
from app.model.interpolation import Method, even_lambdas, interpolate
from app.model.latents import posterior_draws, standard_draws
from app.model.prior import Prior
from model_training.backends.base import Backend, Floats
from model_training.evaluation import distribution_metrics
from model_training.evaluation.distribution_metrics import Points
from model_training.evaluation.feature_network import FeatureNetwork
from model_training.evaluation.reconstructions import SEED

SAMPLES = 3000
"""Images in each set that is compared; fewer where there are not twice as many training images.

With this many the Frechet distance of two sets of real images stays small beside that of reconstructions.
With the few hundred images that are usually held out it does not, and every ratio would be drawn to 1.
"""

PATHS, PATH_STEPS = 128, 16
"""So many paths of so many steps join two held-out images each."""

COPY_PERCENTILE = 1
"""A sample counts as close to a training image when it is closer than all but this many in a hundred
reconstructions of held-out images."""


def evaluate_samples(
    backend: Backend,
    prior: Prior | None,
    held_out: ImageArray,
    training: ImageArray,
    network: FeatureNetwork,
    second: FeatureNetwork | None = None,
) -> dict[str, float]:
    """Likeness of samples to photographs, in the features of a network; all draws are seeded.

    The training images are shuffled; n of them are the reference and n others are what is reconstructed, so
    that no image stands on both sides. A figure for `pictures` is what these others get as they are: the
    best that can be hoped for. `held_out` figures show whether reconstructions are better of images
    that were trained on; the sets are smaller, so they compare with each other alone.

    Args:
        prior: the fitted one; without it there are no figures of fitted samples.
        held_out, training: (N, height, width, 3) and (M, height, width, 3) uint8, of the networks' size.
        second: a network that was trained by itself. What a decoder that was taught by one network's
            features, or by the grid of its strides, gains there alone is no gain.

    Returns:
        aggregate_*: see distribution_metrics.aggregate_posterior, on one draw for each training image.
        samples (n); frechet_*, precision_* and recall_* of pictures, reconstructions, standard_samples and
        fitted_samples; frechet_held_out_pictures and frechet_held_out_reconstructions.
        prior_frechet_*, prior_precision_* and prior_recall_*: the samples against the reconstructions instead
        of the images. What the decoder blurs is blurred on both sides: these judge the prior alone.
        nearest_features_* and nearest_pixels_*: the median distance to the nearest training image or its
        mirror image, in features and in root mean square grey levels of a thumbnail, of held-out and of
        training images' reconstructions and of fitted samples; close_features and close_pixels, the fractions
        of fitted samples that are close (COPY_PERCENTILE).
        linear_* and spherical_*: see distribution_metrics.Smoothness, of paths between held-out images.
        second_*: all frechet_*, precision_*, recall_* and prior_* again, by the second network.

    Raises:
        ValueError: a network takes images of another size, or there are too few images.
    """
    for judge in filter(None, (network, second)):
        _check(backend, held_out, training, judge)
    mean, log_variance = backend.encode(training)
    draws = posterior_draws(mean, np.exp(0.5 * log_variance), SEED)
    figures = _prefixed("aggregate", distribution_metrics.aggregate_posterior(draws))

    count = min(SAMPLES, len(training) // 2)
    shuffled = np.random.default_rng(SEED).permutation(len(training))
    reconstructed, reference = shuffled[:count], shuffled[count : 2 * count]
    decoded = {
        "reconstructions": backend.decode(mean[reconstructed]),
        "standard_samples": backend.decode(standard_draws(count, backend.latent_dim, SEED)),
    }
    if prior is not None:
        decoded["fitted_samples"] = backend.decode(prior.draw(count, SEED))
    held_out_mean, _ = backend.encode(held_out)
    decoded["held_out_reconstructions"] = backend.decode(held_out_mean)
    figures["samples"] = float(count)
    sets = {"pictures": training[reconstructed], "held_out_pictures": held_out, **decoded}
    real, features = network(training), {name: network(images) for name, images in sets.items()}
    figures |= _all_likeness(real[reference], features)
    if second is not None:
        judged = {name: second(images) for name, images in sets.items()}
        figures |= _prefixed("second", _all_likeness(second(training[reference]), judged))

    mirrored = training[:, :, ::-1]
    figures |= _nearness("features", np.concatenate([real, network(mirrored)]), features)
    figures |= _nearness(
        "pixels",
        np.concatenate(
            [distribution_metrics.thumbnails(training), distribution_metrics.thumbnails(mirrored)]
        ),
        {name: distribution_metrics.thumbnails(images) for name, images in decoded.items()},
    )
    methods: tuple[Method, ...] = ("linear", "spherical")
    for method in methods:
        paths = _paths(backend, network, held_out_mean, method, prior)
        figures |= _prefixed(method, distribution_metrics.smoothness(paths)._asdict())
    return figures


def _check(backend: Backend, held_out: ImageArray, training: ImageArray, network: FeatureNetwork) -> None:
    if (network.width, network.height) != (backend.width, backend.height):
        raise ValueError(
            f"the feature network takes pictures of {network.width} x {network.height} and the model makes"
            f" {backend.width} x {backend.height}: train a network of that size with fit-features"
        )
    least = max(backend.latent_dim, 2 * distribution_metrics.NEIGHBOURS + 1)
    if len(training) <= least or len(held_out) < 2:
        raise ValueError(f"more than {least} training and two held-out pictures are needed to judge samples")


def _all_likeness(real: Points, features: dict[str, Points]) -> dict[str, float]:
    """Likeness of all sets to real images, and of the samples to the reconstructions."""
    held_out = {name: points for name, points in features.items() if name.startswith("held_out")}
    drawn = {name: points for name, points in features.items() if name not in held_out}
    samples = {name: points for name, points in drawn.items() if name.endswith("samples")}
    figures = _likeness(real, drawn)
    figures |= _prefixed("prior", _likeness(features["reconstructions"], samples))
    for name, points in held_out.items():
        figures[f"frechet_{name}"] = distribution_metrics.frechet_distance(real, points)
    return figures


def _likeness(real: Points, sets: dict[str, Points]) -> dict[str, float]:
    figures = {
        f"frechet_{name}": distribution_metrics.frechet_distance(real, points)
        for name, points in sets.items()
    }
    for name, points in sets.items():
        precision, recall = distribution_metrics.precision_recall(real, points)
        figures |= {f"precision_{name}": precision, f"recall_{name}": recall}
    return figures


def _nearness(space: str, training: Points, sets: dict[str, Points]) -> dict[str, float]:
    distances = {
        name: distribution_metrics.nearest_distances(sets[name], training)
        for name in ("held_out_reconstructions", "reconstructions", "fitted_samples")
        if name in sets
    }
    figures = {f"nearest_{space}_{name}": float(np.median(values)) for name, values in distances.items()}
    if "fitted_samples" in distances:
        limit = np.percentile(distances["held_out_reconstructions"], COPY_PERCENTILE)
        figures[f"close_{space}"] = float((distances["fitted_samples"] < limit).mean())
    return figures


def _paths(
    backend: Backend, network: FeatureNetwork, latents: Floats, method: Method, prior: Prior | None
) -> Points:
    """(paths, PATH_STEPS + 1, F) features along the paths the service would take."""
    count = min(PATHS, len(latents) // 2)
    lambdas = even_lambdas(PATH_STEPS + 1)
    ends = latents[: 2 * count].reshape(count, 2, -1)
    frames = np.concatenate([interpolate(pair, lambdas, method, prior) for pair in ends])
    return network(backend.decode(frames)).reshape(count, PATH_STEPS + 1, -1)


def _prefixed(prefix: str, figures: dict[str, float]) -> dict[str, float]:
    return {f"{prefix}_{name}": value for name, value in figures.items()}
