"""VAE: an encoder and a decoder of one architecture, as they are trained."""

from torch import Tensor, nn

from app.images.arrays import ImageArray
from model_training.networks import conv_vae, pca_vae, subpixel_vae
from model_training.networks.layers import Posterior
from model_training.networks.loss import Likelihood
from model_training.recipe import ConvVaeConfig, ModelConfig, PcaVaeConfig


class VAE(nn.Module):
    """Encoder and decoder together: images -> posterior -> latents -> images."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder: conv_vae.Encoder | pca_vae.Encoder
        self.decoder: conv_vae.Decoder | pca_vae.Decoder | subpixel_vae.Decoder
        self.likelihood: Likelihood
        if isinstance(config, ConvVaeConfig):
            self.encoder, self.decoder = conv_vae.Encoder(config), conv_vae.Decoder(config)
            self.likelihood = "bernoulli"
        elif isinstance(config, PcaVaeConfig):
            self.encoder, self.decoder = pca_vae.Encoder(config), pca_vae.Decoder(config)
            self.likelihood = "gaussian"
        else:
            self.encoder, self.decoder = subpixel_vae.Encoder(config), subpixel_vae.Decoder(config)
            self.likelihood = "gaussian"

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Posterior]:
        """Encode, draw a latent, decode it.

        Args:
            images: (N, 3, H, W) in 0..1.
            noise: (N, latent_dim) drawn from N(0, I); zeros decode the posterior mean.

        Returns:
            the decoder's output (N, 3, H, W), see `to_images`, and the Posterior.
        """
        posterior: Posterior = self.encoder(images)
        return self.decoder(posterior.sample(noise)), posterior

    def to_images(self, output: Tensor) -> Tensor:
        """The decoder's output as images in 0..1; where the likelihood is Bernoulli, it is logits."""
        return output.sigmoid() if self.likelihood == "bernoulli" else output.clamp(0, 1)

    def init_from_pca(self, images: ImageArray) -> None:
        """Set the linear codec, where the architecture has one, to the images' principal components.

        Args:
            images: (N, height, width, 3) uint8, the training images.
        """
        if isinstance(self.encoder, conv_vae.Encoder) or isinstance(self.decoder, conv_vae.Decoder):
            return
        components = pca_vae.principal_components(images, self.config.latent_dim)
        self.encoder.init_from_pca(components)
        self.decoder.init_from_pca(components)

    def linear_parameters(self) -> list[nn.Parameter]:
        """Parameters of the linear codec, which starts near where it ends."""
        if isinstance(self.encoder, conv_vae.Encoder) or isinstance(self.decoder, conv_vae.Decoder):
            return []
        return [*self.encoder.linear.parameters(), *self.decoder.linear.parameters()]


def parameter_count(model: nn.Module) -> int:
    """Number of trainable values in a module."""
    return sum(parameter.numel() for parameter in model.parameters())
