import math

import pytest
import torch

from model_training.networks.layers import Posterior
from model_training.networks.loss import negative_elbo


def test_the_loss_is_that_computed_by_hand() -> None:
    logits = torch.zeros(2, 3, 4, 6)
    images = torch.rand(2, 3, 4, 6)
    posterior = Posterior(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.zeros(2, 2))
    loss = negative_elbo(logits, images, posterior, "bernoulli")
    assert loss.reconstruction.item() == pytest.approx(72 * math.log(2), rel=1e-6)
    assert loss.kl.item() == pytest.approx((0.5 + 2.0) / 2)
    assert loss.total.item() == pytest.approx(loss.reconstruction.item() + loss.kl.item())


def test_the_loss_is_per_image_whatever_the_batch() -> None:
    torch.manual_seed(0)
    logits, images = torch.randn(3, 3, 4, 6), torch.rand(3, 3, 4, 6)
    posterior = Posterior(torch.randn(3, 5), torch.randn(3, 5))
    once = negative_elbo(logits, images, posterior, "bernoulli")
    doubled = Posterior(posterior.mean.repeat(2, 1), posterior.log_variance.repeat(2, 1))
    twice = negative_elbo(logits.repeat(2, 1, 1, 1), images.repeat(2, 1, 1, 1), doubled, "bernoulli")
    torch.testing.assert_close(torch.stack(once), torch.stack(twice))


def test_the_loss_is_lowest_at_the_image_itself() -> None:
    images = torch.rand(1, 3, 4, 6)
    logits = torch.logit(images, 1e-6).requires_grad_()
    posterior = Posterior(torch.zeros(1, 1), torch.zeros(1, 1))
    negative_elbo(logits, images, posterior, "bernoulli").total.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad.abs().max().item() < 1e-5


def test_a_calibrated_gaussian_is_the_density_at_the_best_variance() -> None:
    torch.manual_seed(0)
    output, images = torch.rand(5, 3, 4, 6), torch.rand(5, 3, 4, 6)
    posterior = Posterior(torch.zeros(5, 2), torch.zeros(5, 2))
    loss = negative_elbo(output, images, posterior, "gaussian")

    def nats(sigma: float) -> float:
        density = torch.distributions.Normal(output, sigma).log_prob(images)  # type: ignore[no-untyped-call]
        return -float(density.sum()) / 5

    best = (output - images).square().mean().sqrt().item()
    assert loss.total.item() == pytest.approx(nats(best), rel=1e-5)
    assert nats(best) < min(nats(0.9 * best), nats(1.1 * best))


def test_the_gradient_of_a_calibrated_gaussian_sees_the_variance_of_all_parts() -> None:
    torch.manual_seed(0)
    output, images = torch.rand(4, 3, 4, 6), torch.rand(4, 3, 4, 6)
    posterior = Posterior(torch.zeros(4, 2), torch.zeros(4, 2))
    whole = output.clone().requires_grad_()
    negative_elbo(whole, images, posterior, "gaussian").total.backward()  # type: ignore[no-untyped-call]
    errors = [(output[part] - images[part]).square().mean() for part in (slice(2), slice(2, 4))]
    half = output[:2].clone().requires_grad_()
    few = Posterior(posterior.mean[:2], posterior.log_variance[:2])
    loss = negative_elbo(half, images[:2], few, "gaussian", lambda _: torch.stack(errors).mean())
    loss.total.backward()  # type: ignore[no-untyped-call]
    assert whole.grad is not None
    assert half.grad is not None
    torch.testing.assert_close(half.grad / 2, whole.grad[:2])
