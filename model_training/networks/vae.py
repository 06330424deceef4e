"""The variational autoencoder, in either architecture."""

from torch import Tensor, nn

from app.images.arrays import ImageArray
from model_training.networks import conv_vae, pca_vae
from model_training.networks.layers import Posterior
from model_training.networks.loss import Likelihood
from model_training.recipe import ConvolutionalConfig, ModelConfig


class VAE(nn.Module):
    """Encoder and decoder together, as they are trained."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder: conv_vae.Encoder | pca_vae.Encoder
        self.decoder: conv_vae.Decoder | pca_vae.Decoder
        self.likelihood: Likelihood
        if isinstance(config, ConvolutionalConfig):
            self.encoder, self.decoder = conv_vae.Encoder(config), conv_vae.Decoder(config)
            self.likelihood = "bernoulli"
        else:
            self.encoder, self.decoder = pca_vae.Encoder(config), pca_vae.Decoder(config)
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

    def begin_from(self, pixels: ImageArray) -> None:
        """Set what does not start at random.

        Args:
            pixels: (N, height, width, 3) uint8, the training pictures.
        """
        if isinstance(self.encoder, pca_vae.Encoder) and isinstance(self.decoder, pca_vae.Decoder):
            components = pca_vae.principal_components(pixels, self.config.latent_dim)
            self.encoder.begin_from(components)
            self.decoder.begin_from(components)

    def linear_parameters(self) -> list[nn.Parameter]:
        """Those of the linear codec, which starts near where it ends."""
        parts = (self.encoder, self.decoder)
        linear = [part.linear for part in parts if isinstance(part, pca_vae.Encoder | pca_vae.Decoder)]
        return [parameter for part in linear for parameter in part.parameters()]


def parameter_count(model: nn.Module) -> int:
    """Trainable numbers in a module."""
    return sum(parameter.numel() for parameter in model.parameters())
