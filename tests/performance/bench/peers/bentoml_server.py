"""BentoML: a service of several workers. Its adaptive batching costs more than it gains here and is off."""

from typing import Annotated

import bentoml
import numpy as np
from bentoml.validators import ContentType
from PIL import Image

from app.images.arrays import ImageArray
from tests.performance.bench.peers import work

JSON = ContentType("application/json")
PNG = ContentType("image/png")


@bentoml.service(
    workers=work.WORKERS, traffic={"timeout": 60}, http={"port": work.PORT}, metrics={"enabled": False}
)
class Vae:
    """The three endpoints."""

    def __init__(self) -> None:
        """Open the model."""
        self.model = work.Model()

    @bentoml.api
    def encode(self, image: list[Image.Image]) -> Annotated[bytes, JSON]:
        """Pictures -> JSON."""
        return work.latents_out(*self.model.encode(_fitted(image)))

    @bentoml.api
    def decode(self, latents: np.ndarray) -> Annotated[bytes, PNG]:
        """JSON -> PNG."""
        return work.png(self.model.decode(latents.astype(np.float32)))

    @bentoml.api
    def reconstruct(self, image: list[Image.Image]) -> Annotated[bytes, PNG]:
        """Pictures -> PNG."""
        mean, _ = self.model.encode(_fitted(image))
        return work.png(self.model.decode(mean))


def _fitted(images: list[Image.Image]) -> ImageArray:
    return np.stack([work.fitted_image(image) for image in images])
