"""The variational autoencoder, in either architecture."""

from torch import Tensor, nn

from app.images import Pixels
from model_training import convolutional, principal
from model_training.config import ConvolutionalConfig, ModelConfig
from model_training.layers import Posterior
from model_training.loss import Likelihood


class VAE(nn.Module):
    """Encoder and decoder together, as they are trained."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder: convolutional.Encoder | principal.Encoder
        self.decoder: convolutional.Decoder | principal.Decoder
        self.likelihood: Likelihood
        if isinstance(config, ConvolutionalConfig):
            self.encoder, self.decoder = convolutional.Encoder(config), convolutional.Decoder(config)
            self.likelihood = "bernoulli"
        else:
            self.encoder, self.decoder = principal.Encoder(config), principal.Decoder(config)
            self.likelihood = "gaussian"

    def forward(self, pictures: Tensor, noise: Tensor) -> tuple[Tensor, Posterior]:
        """Encode, draw, decode.

        Args:
            pictures: (N, 3, H, W) in 0..1.
            noise: (N, latent_dim) drawn from N(0, I); zeros decode the posterior mean.

        Returns:
            the decoder's output (N, 3, H, W), see `to_pictures`, and the Posterior.
        """
        posterior: Posterior = self.encoder(pictures)
        return self.decoder(posterior.sample(noise)), posterior

    def to_pictures(self, output: Tensor) -> Tensor:
        """What the decoder gives, as pictures in 0..1: it gives logits where the likelihood is Bernoulli."""
        return output.sigmoid() if self.likelihood == "bernoulli" else output.clamp(0, 1)

    def begin_from(self, pixels: Pixels) -> None:
        """Set what does not start at random.

        Args:
            pixels: (N, height, width, 3) uint8, the training pictures.
        """
        if isinstance(self.encoder, principal.Encoder) and isinstance(self.decoder, principal.Decoder):
            components = principal.principal_components(pixels, self.config.latent_dim)
            self.encoder.begin_from(components)
            self.decoder.begin_from(components)

    def linear_parameters(self) -> list[nn.Parameter]:
        """Those of the linear codec, which starts near where it ends."""
        parts = (self.encoder, self.decoder)
        linear = [part.linear for part in parts if isinstance(part, principal.Encoder | principal.Decoder)]
        return [parameter for part in linear for parameter in part.parameters()]


def parameter_count(model: nn.Module) -> int:
    """Trainable numbers in a module."""
    return sum(parameter.numel() for parameter in model.parameters())
