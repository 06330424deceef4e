"""The same quality figures for PyTorch weights and for exported ONNX graphs."""

import math

import numpy as np
from numpy.typing import NDArray

from app.images import Pixels
from app.latents import Method, Prior, even_lambdas, interpolate, posterior_draws, standard_draws
from app.quality import ms_ssim, ms_ssim_scales, psnr, ssim
from model_training import sample_quality
from model_training.codec import Codec, Floats
from model_training.features import FeatureNetwork
from model_training.sample_quality import Points

ACTIVE_NATS = 0.1
"""A latent unit whose mean KL is below this carries next to nothing."""

ACTIVE_VARIANCE = 0.01
"""Burda et al. 2016: a unit is active when its mean varies over the pictures by more than this."""

SEED = 0
"""Of all draws."""

SAMPLES = 3000
"""Pictures in each set that is compared; fewer where there are not twice as many training pictures.

With this many the Frechet distance of two sets of real pictures stays small beside that of reconstructions.
With the few hundred pictures that are usually held out it does not, and every ratio would be drawn to 1.
"""

PAIRS, STEPS = 128, 16
"""Held-out pictures are joined in so many pairs, by paths of so many steps."""

COPY_PERCENTILE = 1
"""A sample counts as close to a training picture when it is closer than all but this many in a hundred
reconstructions of held-out pictures."""


def evaluate(codec: Codec, pixels: Pixels) -> dict[str, float]:
    """Quality of the reconstructions from the mean, and use of the latent units.

    Args:
        pixels: (N, height, width, 3) uint8, pictures the model has not seen.

    Returns:
        pictures (N); psnr (dB), ssim and ms_ssim, means of the pictures' own, and ms_ssim_scales; bce of the
        8-bit reconstruction and kl, both in nats per picture; bits_per_dim and likelihood_sigma (see there);
        active_units (KL above ACTIVE_NATS) and active_units_burda.
    """
    mean, log_variance = codec.encode(pixels)
    reconstructions = codec.decode(mean)
    drawn = codec.decode(posterior_draws(mean, np.exp(0.5 * log_variance), SEED))
    units = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).mean(axis=0)
    kl = float(units.sum())
    sigma, bits = bits_per_dim(pixels, drawn, kl)
    return {
        "pictures": float(len(pixels)),
        "psnr": float(np.mean(psnr(pixels, reconstructions))),
        "ssim": float(np.mean(ssim(pixels, reconstructions))),
        "ms_ssim": float(np.mean(ms_ssim(pixels, reconstructions))),
        "ms_ssim_scales": float(ms_ssim_scales(codec.height, codec.width)),
        "bce": float(np.mean(binary_cross_entropy(pixels, reconstructions))),
        "kl": kl,
        "bits_per_dim": bits,
        "likelihood_sigma": sigma,
        "active_units": float((units > ACTIVE_NATS).sum()),
        "active_units_burda": float((mean.var(axis=0) > ACTIVE_VARIANCE).sum()),
    }


def evaluate_samples(
    codec: Codec, prior: Prior | None, held_out: Pixels, training: Pixels, network: FeatureNetwork
) -> dict[str, float]:
    """Likeness of samples to photographs, in the features of a network; all draws are seeded.

    The training pictures are shuffled; n of them are the reference and n others are what is reconstructed, so
    that no picture stands on both sides. A figure for `pictures` is what these others get as they are: the
    best that can be hoped for. `held_out` figures show whether reconstructions are better of pictures
    that were trained on; the sets are smaller, so they compare with each other alone.

    Args:
        prior: the fitted one; without it there are no figures of fitted samples.
        held_out, training: (N, height, width, 3) and (M, height, width, 3) uint8, of the network's size.

    Returns:
        aggregate_*: see sample_quality.aggregate_posterior, on one draw for each training picture.
        samples (n); frechet_*, precision_* and recall_* of pictures, reconstructions, standard_samples and
        fitted_samples; frechet_held_out_pictures and frechet_held_out_reconstructions.
        prior_frechet_*, prior_precision_* and prior_recall_*: the samples against the reconstructions instead
        of the pictures. What the decoder blurs is blurred on both sides: these judge the prior alone.
        nearest_features_* and nearest_pixels_*: the median distance to the nearest training picture or its
        mirror image, in features and in root mean square grey levels of a thumbnail, of held-out and of
        training pictures' reconstructions and of fitted samples; close_features and close_pixels, the shares
        of fitted samples that are close (COPY_PERCENTILE).
        linear_* and spherical_*: see sample_quality.Smoothness, of paths between held-out pictures.

    Raises:
        ValueError: the network takes pictures of another size, or there are too few pictures.
    """
    _check(codec, held_out, training, network)
    mean, log_variance = codec.encode(training)
    draws = posterior_draws(mean, np.exp(0.5 * log_variance), SEED)
    figures = _prefixed("aggregate", sample_quality.aggregate_posterior(draws))

    count = min(SAMPLES, len(training) // 2)
    shuffled = np.random.default_rng(SEED).permutation(len(training))
    own, others = shuffled[:count], shuffled[count : 2 * count]
    made = {
        "reconstructions": codec.decode(mean[own]),
        "standard_samples": codec.decode(standard_draws(count, codec.latent_dim, SEED)),
    }
    if prior is not None:
        made["fitted_samples"] = codec.decode(prior.draw(count, SEED))
    known = network(training)
    features = {"pictures": known[own], **{name: network(pictures) for name, pictures in made.items()}}
    drawn = {name: points for name, points in features.items() if name.endswith("samples")}
    figures |= {"samples": float(count), **_likeness(known[others], features)}
    figures |= _prefixed("prior", _likeness(features["reconstructions"], drawn))

    held_out_mean, _ = codec.encode(held_out)
    made["held_out_reconstructions"] = codec.decode(held_out_mean)
    features["held_out_reconstructions"] = network(made["held_out_reconstructions"])
    for name, points in (
        ("held_out_pictures", network(held_out)),
        ("held_out_reconstructions", features["held_out_reconstructions"]),
    ):
        figures[f"frechet_{name}"] = sample_quality.frechet_distance(known[others], points)

    mirrored = training[:, :, ::-1]
    figures |= _nearness("features", np.concatenate([known, network(mirrored)]), features)
    figures |= _nearness(
        "pixels",
        np.concatenate([sample_quality.thumbnails(training), sample_quality.thumbnails(mirrored)]),
        {name: sample_quality.thumbnails(pictures) for name, pictures in made.items()},
    )
    methods: tuple[Method, ...] = ("linear", "spherical")
    for method in methods:
        paths = _paths(codec, network, held_out_mean, method, prior)
        figures |= _prefixed(method, sample_quality.smoothness(paths)._asdict())
    return figures


def bits_per_dim(pictures: Pixels, reconstructions: Pixels, kl: float) -> tuple[float, float]:
    """A bound on the bits a value (a pixel's red, green or blue) costs, and the likelihood's sigma.

    -ELBO / (dimensions ln 2), for values made continuous by uniform noise of one grey level (Theis et al.
    2016): the likelihood is N(reconstruction, sigma^2) for all values alike, with sigma^2 the mean squared
    error with that noise, e^2 + 1/12, of these very pictures; the cost is then log2(2 pi e sigma^2) / 2 and
    what the KL divergence adds. The model may have been trained for another likelihood.

    Args:
        pictures, reconstructions: (N, height, width, 3) uint8, the latter from draws of the posteriors.
        kl: mean KL(posterior || N(0, I)) in nats per picture.

    Returns:
        sigma in grey levels, and bits per dimension.
    """
    squares = (
        np.square(a.astype(np.float32) - b).mean() for a, b in zip(pictures, reconstructions, strict=True)
    )
    variance = sum(float(square) for square in squares) / len(pictures) + 1 / 12
    dimensions = pictures[0].size
    return math.sqrt(variance), 0.5 * math.log2(2 * math.pi * math.e * variance) + kl / dimensions / math.log(
        2
    )


def binary_cross_entropy(pictures: Pixels, reconstructions: Pixels) -> NDArray[np.float64]:
    """Nats per picture, summed over pixels and channels; both (N, height, width, 3) uint8.

    A value rounded to 0 or 255 stands for half a grey level's range; its middle keeps the logarithm finite.
    """
    table = np.clip(np.arange(256) / 255, 0.25 / 255, 1 - 0.25 / 255)
    on, off = np.log(table), np.log1p(-table)
    target = pictures / 255
    entropy = -(target * on[reconstructions] + (1 - target) * off[reconstructions])
    sums: NDArray[np.float64] = entropy.reshape(len(pictures), -1).sum(axis=1)
    return sums


def _check(codec: Codec, held_out: Pixels, training: Pixels, network: FeatureNetwork) -> None:
    if (network.width, network.height) != (codec.width, codec.height):
        raise ValueError(
            f"the feature network takes pictures of {network.width} x {network.height} and the model makes"
            f" {codec.width} x {codec.height}: train a network of that size with fit-features"
        )
    least = max(codec.latent_dim, 2 * sample_quality.NEIGHBOURS + 1)
    if len(training) <= least or len(held_out) < 2:
        raise ValueError(f"more than {least} training and two held-out pictures are needed to judge samples")


def _likeness(real: Points, sets: dict[str, Points]) -> dict[str, float]:
    figures = {
        f"frechet_{name}": sample_quality.frechet_distance(real, points) for name, points in sets.items()
    }
    for name, points in sets.items():
        precision, recall = sample_quality.precision_recall(real, points)
        figures |= {f"precision_{name}": precision, f"recall_{name}": recall}
    return figures


def _nearness(space: str, training: Points, sets: dict[str, Points]) -> dict[str, float]:
    distances = {
        name: sample_quality.nearest_distances(sets[name], training)
        for name in ("held_out_reconstructions", "reconstructions", "fitted_samples")
        if name in sets
    }
    figures = {f"nearest_{space}_{name}": float(np.median(values)) for name, values in distances.items()}
    if "fitted_samples" in distances:
        usual = np.percentile(distances["held_out_reconstructions"], COPY_PERCENTILE)
        figures[f"close_{space}"] = float((distances["fitted_samples"] < usual).mean())
    return figures


def _paths(
    codec: Codec, network: FeatureNetwork, latents: Floats, method: Method, prior: Prior | None
) -> Points:
    """(pairs, STEPS + 1, F) features along the paths the service would take."""
    pairs = min(PAIRS, len(latents) // 2)
    lambdas = even_lambdas(STEPS + 1)
    ends = latents[: 2 * pairs].reshape(pairs, 2, -1)
    frames = np.concatenate([interpolate(pair, lambdas, method, prior) for pair in ends])
    return network(codec.decode(frames)).reshape(pairs, STEPS + 1, -1)


def _prefixed(prefix: str, figures: dict[str, float]) -> dict[str, float]:
    return {f"{prefix}_{name}": value for name, value in figures.items()}
