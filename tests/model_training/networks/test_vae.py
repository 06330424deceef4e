import math

import pytest
import torch

from model_training.networks.layers import LOG_VARIANCE_RANGE, Posterior
from model_training.networks.vae import VAE
from model_training.recipe import Recipe


def test_shapes_and_dtypes(recipe: Recipe) -> None:
    model = VAE(recipe.model)
    logits, posterior = model(torch.rand(5, 3, 16, 24), torch.randn(5, 6))
    assert logits.shape == (5, 3, 16, 24)
    assert posterior.mean.shape == posterior.log_variance.shape == (5, 6)
    assert logits.dtype == posterior.mean.dtype == posterior.log_variance.dtype == torch.float32


def test_the_kl_of_the_prior_itself_is_zero_and_known_values_hold() -> None:
    assert Posterior(torch.zeros(2, 3), torch.zeros(2, 3)).kl().abs().max() == 0
    kl = Posterior(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, math.log(4.0)]])).kl()
    assert kl[0].tolist() == pytest.approx([0.5, 0.5 * (4 - 1 - math.log(4))])


def test_the_kl_is_that_of_torch_distributions() -> None:
    torch.manual_seed(0)
    posterior = Posterior(torch.randn(4, 7), torch.randn(4, 7))
    ours = torch.distributions.Normal(posterior.mean, torch.exp(0.5 * posterior.log_variance))
    reference = torch.distributions.kl_divergence(ours, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(posterior.kl(), reference)


def test_a_draw_is_mean_plus_standard_deviation_times_noise() -> None:
    posterior = Posterior(torch.tensor([[1.0, -2.0]]), torch.tensor([[math.log(9.0), math.log(0.25)]]))
    assert posterior.sample(torch.tensor([[1.0, 2.0]]))[0].tolist() == pytest.approx([4.0, -1.0])


def test_extreme_pictures_keep_the_variance_finite(recipe: Recipe) -> None:
    model = VAE(recipe.model).eval()
    posterior = model.encoder(torch.full((1, 3, 16, 24), 1e6))
    assert posterior.log_variance.min() >= LOG_VARIANCE_RANGE[0]
    assert posterior.log_variance.max() <= LOG_VARIANCE_RANGE[1]
    assert posterior.sample(torch.ones(1, 6)).isfinite().all()


def test_noise_changes_the_reconstruction_and_zeros_decode_the_mean(recipe: Recipe) -> None:
    model = VAE(recipe.model).eval()
    pictures = torch.rand(2, 3, 16, 24)
    from_mean, posterior = model(pictures, torch.zeros(2, 6))
    torch.testing.assert_close(from_mean, model.decoder(posterior.mean))
    assert not torch.allclose(from_mean, model(pictures, torch.ones(2, 6))[0])
