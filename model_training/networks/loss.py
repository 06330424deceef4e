"""Loss: the negative ELBO, of a calibrated Gaussian or binary cross-entropy, in nats per image."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor

from model_training.networks.layers import Posterior

Likelihood = Literal["bernoulli", "gaussian"]


class Loss(NamedTuple):
    """Means over a batch, each a scalar tensor in nats per image."""

    total: Tensor
    reconstruction: Tensor
    kl: Tensor


def negative_elbo(
    output: Tensor,
    images: Tensor,
    posterior: Posterior,
    likelihood: Likelihood,
    all_reduce_mean: Callable[[Tensor], Tensor] = lambda value: value,
) -> Loss:
    """Reconstruction loss plus the KL divergence of the posterior to N(0, I).

    Args:
        output: (N, 3, H, W) from the decoder: logits for "bernoulli", images for "gaussian".
        images: (N, 3, H, W) in 0..1.
        all_reduce_mean: turns the mean square error of a shard into that of the global batch.
    """
    count = images.shape[0]
    if likelihood == "bernoulli":
        reconstruction = F.binary_cross_entropy_with_logits(output, images, reduction="sum") / count
    else:
        reconstruction = calibrated_gaussian(output, images, all_reduce_mean)
    kl = posterior.kl().sum() / count
    return Loss(reconstruction + kl, reconstruction, kl)


def calibrated_gaussian(
    output: Tensor, images: Tensor, all_reduce_mean: Callable[[Tensor], Tensor]
) -> Tensor:
    """Negative log-density of images under N(output, variance), in nats an image, with the one variance
    that makes it least: the batch's own mean square error (sigma-VAE, Rybkin et al. 2021).

    A binary cross entropy weighs errors as if that variance were several times larger, and the KL divergence
    then pays for leaving detail out.
    """
    error = (output - images).square().mean()
    variance = all_reduce_mean(error.detach().clone())
    values = images[0].numel()
    nats: Tensor = 0.5 * values * (error / variance + math.log(2 * math.pi) + variance.log())
    return nats
