import torch

from model_training.networks.subpixel_vae import Decoder
from model_training.networks.vae import VAE
from model_training.refinement.decoder_derivatives import DecoderDerivatives
from model_training.refinement.fit import folded_decoder
from tests.model_training.conftest import SUBPIXEL_RECIPE

LATENT_DIM = SUBPIXEL_RECIPE.model.latent_dim


def decoder() -> Decoder:
    """A decoder of random weights in float64, batch norms and all, whose activations are of both signs."""
    torch.manual_seed(0)
    model = VAE(SUBPIXEL_RECIPE.model)
    for _ in range(3):
        model.decoder(2 * torch.randn(64, LATENT_DIM))  # the statistics of batch norm
    return folded_decoder(model.eval()).double()


def test_the_images_are_the_decoders() -> None:
    plain = decoder()
    derivatives = DecoderDerivatives(plain)
    latents = torch.randn(5, LATENT_DIM).double()
    cells, _ = derivatives(derivatives.enter(latents))
    torch.testing.assert_close(cells, plain.cells(latents))


def test_steps_in_the_latents_go_forward_as_finite_differences_do() -> None:
    plain = decoder()
    derivatives = DecoderDerivatives(plain)
    latents, tangents = torch.randn(5, LATENT_DIM).double(), torch.randn(5, LATENT_DIM).double()
    _, slopes = derivatives(derivatives.enter(latents))
    change, entry_change = derivatives.push_forward(slopes, tangents)
    step = 1e-7
    difference = (plain.cells(latents + step * tangents) - plain.cells(latents - step * tangents)) / (
        2 * step
    )
    torch.testing.assert_close(change, difference, rtol=1e-5, atol=1e-6)
    moved = derivatives.enter(latents).moved(torch.full((5, 1), 0.5).double(), entry_change)
    for found, expected in zip(moved, derivatives.enter(latents + 0.5 * tangents), strict=True):
        torch.testing.assert_close(found, expected)


def test_what_images_ask_goes_back_as_autograd_takes_it() -> None:
    plain = decoder()
    derivatives = DecoderDerivatives(plain)
    latents = torch.randn(5, LATENT_DIM).double().requires_grad_()
    cells = plain.cells(latents)
    cotangents = torch.randn_like(cells)
    (expected,) = torch.autograd.grad(cells, latents, cotangents)
    _, slopes = derivatives(derivatives.enter(latents.detach()))
    torch.testing.assert_close(derivatives.pull_back(slopes, cotangents), expected)


def test_both_directions_are_transposes_of_each_other() -> None:
    derivatives = DecoderDerivatives(decoder())
    latents, tangents = torch.randn(4, LATENT_DIM).double(), torch.randn(4, LATENT_DIM).double()
    cells, slopes = derivatives(derivatives.enter(latents))
    cotangents = torch.randn_like(cells)
    forward = (derivatives.push_forward(slopes, tangents)[0] * cotangents).flatten(1).sum(1)
    back = (derivatives.pull_back(slopes, cotangents) * tangents).sum(1)
    torch.testing.assert_close(forward, back)
