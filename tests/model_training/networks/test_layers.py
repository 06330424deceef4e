import math

import pytest
import torch
from torch import nn

from model_training.networks.layers import LEAK, Posterior, down, up


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


def test_a_stage_down_halves_the_sides_and_one_up_doubles_them() -> None:
    images = torch.rand(2, 3, 8, 12)
    features = down(3, 5)(images)
    assert features.shape == (2, 5, 4, 6)
    assert up(5, 7)(features).shape == (2, 7, 8, 12)


def test_stages_are_a_convolution_that_its_batch_norm_can_fold_into_and_a_leaky_relu() -> None:
    for stage in (down(3, 5), up(3, 5)):
        convolution, norm, activation = stage
        assert isinstance(convolution, nn.Conv2d | nn.ConvTranspose2d)
        assert convolution.bias is None
        assert isinstance(norm, nn.BatchNorm2d)
        assert isinstance(activation, nn.LeakyReLU)
        assert activation.negative_slope == LEAK
