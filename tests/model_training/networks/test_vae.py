import pytest
import torch

from model_training.networks.layers import LOG_VARIANCE_RANGE
from model_training.networks.vae import VAE, parameter_count
from model_training.recipe import Recipe
from tests.model_training.conftest import PCA_RECIPE


def test_the_output_has_the_shape_of_the_images_and_the_posterior_that_of_the_latents(recipe: Recipe) -> None:
    model = VAE(recipe.model)
    logits, posterior = model(torch.rand(5, 3, 16, 24), torch.randn(5, 6))
    assert logits.shape == (5, 3, 16, 24)
    assert posterior.mean.shape == posterior.log_variance.shape == (5, 6)
    assert logits.dtype == posterior.mean.dtype == posterior.log_variance.dtype == torch.float32


def test_extreme_images_keep_the_variance_finite(recipe: Recipe) -> None:
    model = VAE(recipe.model).eval()
    posterior = model.encoder(torch.full((1, 3, 16, 24), 1e6))
    assert posterior.log_variance.min() >= LOG_VARIANCE_RANGE[0]
    assert posterior.log_variance.max() <= LOG_VARIANCE_RANGE[1]
    assert posterior.sample(torch.ones(1, 6)).isfinite().all()


def test_noise_changes_the_reconstruction_and_zeros_decode_the_mean(recipe: Recipe) -> None:
    model = VAE(recipe.model).eval()
    images = torch.rand(2, 3, 16, 24)
    from_mean, posterior = model(images, torch.zeros(2, 6))
    torch.testing.assert_close(from_mean, model.decoder(posterior.mean))
    assert not torch.allclose(from_mean, model(images, torch.ones(2, 6))[0])


def test_logits_become_images_by_a_sigmoid_and_a_gaussians_mean_by_clamping(recipe: Recipe) -> None:
    output = torch.tensor([-2.0, 0.5, 3.0])
    torch.testing.assert_close(VAE(recipe.model).to_images(output), output.sigmoid())
    assert VAE(PCA_RECIPE.model).to_images(output).tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("bias", [True, False])
def test_the_parameter_count_is_of_all_weights_and_biases(bias: bool) -> None:
    assert parameter_count(torch.nn.Linear(3, 4, bias=bias)) == 12 + 4 * bias
