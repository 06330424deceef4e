"""The negative evidence lower bound and its two parts, in nats per picture."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor

from model_training.networks.layers import Posterior

Likelihood = Literal["bernoulli", "gaussian"]


class Loss(NamedTuple):
    """Means over a batch, each a scalar tensor in nats per picture."""

    total: Tensor
    reconstruction: Tensor
    kl: Tensor


def negative_elbo(
    output: Tensor,
    pictures: Tensor,
    posterior: Posterior,
    likelihood: Likelihood,
    share: Callable[[Tensor], Tensor] = lambda value: value,
) -> Loss:
    """What the pictures cost given their reconstructions, plus the KL divergence to N(0, I).

    Args:
        output: (N, 3, H, W) from the decoder: logits for "bernoulli", pictures for "gaussian".
        pictures: (N, 3, H, W) in 0..1.
        share: turns this batch's mean square error into that of the global batch, where it is only a part.
    """
    count = pictures.shape[0]
    if likelihood == "bernoulli":
        reconstruction = F.binary_cross_entropy_with_logits(output, pictures, reduction="sum") / count
    else:
        reconstruction = calibrated_gaussian(output, pictures, share)
    kl = posterior.kl().sum() / count
    return Loss(reconstruction + kl, reconstruction, kl)


def calibrated_gaussian(output: Tensor, pictures: Tensor, share: Callable[[Tensor], Tensor]) -> Tensor:
    """Negative log-density of pictures under N(output, variance), in nats a picture, with the one variance
    that makes it least: the batch's own mean square error (sigma-VAE, Rybkin et al. 2021).

    A binary cross entropy weighs errors as if that variance were several times larger, and the KL divergence
    then pays for leaving detail out.
    """
    error = (output - pictures).square().mean()
    variance = share(error.detach().clone())
    values = pictures[0].numel()
    nats: Tensor = 0.5 * values * (error / variance + math.log(2 * math.pi) + variance.log())
    return nats
