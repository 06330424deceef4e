import math

import pytest
import torch

from model_training.loss import negative_elbo
from model_training.model import Posterior


def test_a_loss_computed_by_hand() -> None:
    logits = torch.zeros(2, 3, 4, 6)
    pictures = torch.rand(2, 3, 4, 6)
    posterior = Posterior(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.zeros(2, 2))
    loss = negative_elbo(logits, pictures, posterior)
    assert loss.reconstruction.item() == pytest.approx(72 * math.log(2), rel=1e-6)
    assert loss.kl.item() == pytest.approx((0.5 + 2.0) / 2)
    assert loss.total.item() == pytest.approx(loss.reconstruction.item() + loss.kl.item())


def test_the_loss_is_per_picture_whatever_the_batch() -> None:
    torch.manual_seed(0)
    logits, pictures = torch.randn(3, 3, 4, 6), torch.rand(3, 3, 4, 6)
    posterior = Posterior(torch.randn(3, 5), torch.randn(3, 5))
    once = negative_elbo(logits, pictures, posterior)
    doubled = Posterior(posterior.mean.repeat(2, 1), posterior.log_variance.repeat(2, 1))
    twice = negative_elbo(logits.repeat(2, 1, 1, 1), pictures.repeat(2, 1, 1, 1), doubled)
    torch.testing.assert_close(torch.stack(once), torch.stack(twice))


def test_the_loss_is_lowest_at_the_picture_itself() -> None:
    pictures = torch.rand(1, 3, 4, 6)
    logits = torch.logit(pictures, 1e-6).requires_grad_()
    posterior = Posterior(torch.zeros(1, 1), torch.zeros(1, 1))
    negative_elbo(logits, pictures, posterior).total.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad.abs().max().item() < 1e-5
