import torch

from model_training.networks.conv_vae import Decoder, Encoder
from model_training.networks.layers import LOG_VARIANCE_RANGE
from model_training.recipe import ConvVaeConfig

CONFIG = ConvVaeConfig(width=24, height=16, channels=(4, 6), latent_dim=5)


def test_each_stage_halves_the_image_and_the_posterior_has_one_value_a_latent() -> None:
    encoder = Encoder(CONFIG)
    assert encoder.stages(torch.rand(2, 3, 16, 24)).shape == (2, 6, 4, 6)
    posterior = encoder(torch.rand(2, 3, 16, 24))
    assert posterior.mean.shape == posterior.log_variance.shape == (2, 5)


def test_the_decoder_mirrors_the_encoder() -> None:
    decoder = Decoder(CONFIG)
    assert decoder.bottom == (6, 4, 6)
    assert decoder(torch.randn(2, 5)).shape == (2, 3, 16, 24)


def test_outputs_stay_float32_when_products_are_bfloat16() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        posterior = Encoder(CONFIG)(torch.rand(2, 3, 16, 24))
        logits = Decoder(CONFIG)(torch.randn(2, 5))
    assert posterior.mean.dtype == posterior.log_variance.dtype == logits.dtype == torch.float32


def test_the_log_variance_stays_in_its_range() -> None:
    log_variance = Encoder(CONFIG).eval()(torch.full((1, 3, 16, 24), 1e9)).log_variance
    assert log_variance.min() >= LOG_VARIANCE_RANGE[0]
    assert log_variance.max() <= LOG_VARIANCE_RANGE[1]
