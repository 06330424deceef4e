"""The negative evidence lower bound and its two parts, in nats per picture."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from model_training.model import Posterior


class Loss(NamedTuple):
    """Means over a batch, each a scalar tensor in nats per picture."""

    total: Tensor
    reconstruction: Tensor
    kl: Tensor


def negative_elbo(logits: Tensor, pictures: Tensor, posterior: Posterior) -> Loss:
    """Binary cross entropy summed over pixels and channels, plus the KL divergence to N(0, I).

    Args:
        logits: (N, 3, H, W) from the decoder.
        pictures: (N, 3, H, W) in 0..1.
    """
    count = pictures.shape[0]
    reconstruction = F.binary_cross_entropy_with_logits(logits, pictures, reduction="sum") / count
    kl = posterior.kl().sum() / count
    return Loss(reconstruction + kl, reconstruction, kl)
