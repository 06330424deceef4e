"""Schemas of what the service says of itself: its health and the served model."""

from typing import Literal

from pydantic import BaseModel, Field

from app.api.schemas import LatentItem
from app.model.manifest import Precision


class PictureSize(BaseModel):
    """Size of an image in pixels."""

    width: int
    height: int


class DirectionAnswer(BaseModel):
    """A direction of the latent space."""

    vector: LatentItem = Field(description="A unit vector, `latent_dim` numbers.")
    std: float = Field(description="Standard deviation of cars along it: how far one step goes.")
    name: str | None = Field(default=None, description="What it changes; null for a principal direction.")
    low: str | None = Field(default=None, description="What a car becomes against the vector.")
    high: str | None = Field(default=None, description="What a car becomes along the vector.")


class MapAnswer(BaseModel):
    """Drawn cars in a grid, each beside others that look like it."""

    seeds: list[list[int]] = Field(description="Row by row, the seed of the car that is drawn at each place.")
    url: str = Field(
        description="A WebP file of all these cars at the model's size, each in its place. Relative to this "
        "answer's own; what it leads to never changes."
    )


class DecoderAnswer(BaseModel):
    """A decoder that may be loaded, as an ONNX file."""

    precision: Precision
    url: str = Field(description="Relative to this answer's own; what it leads to never changes.")
    sha256: str
    bytes: int


class SelfCheckAnswer(BaseModel):
    """How the int8 decoder compares with that in float32, measured when this service started."""

    grey_levels: float = Field(description="Difference of the pictures, root mean square.")
    worst_grey_levels: float = Field(description="The same of the picture that differs most.")
    fp32_seconds: float = Field(description="CPU time of a picture in float32.")
    int8_seconds: float = Field(description="The same in int8.")


class ModelAnswer(BaseModel):
    """The served model."""

    id: str
    name: str
    version: int
    image_size: PictureSize
    latent_dim: int
    parameters: int
    provider: str = Field(description="The execution provider the model really runs on.")
    precision: Precision = Field(description="Of the decoder: `fp32`, or `int8` for CPUs.")
    encoder_precision: Precision = Field(default="fp32", description="Of the encoder, the same.")
    self_check: SelfCheckAnswer | None = Field(
        default=None,
        description="What decided the decoder's precision; null where there was nothing to decide.",
    )
    refines: bool = Field(default=False, description="Whether `refine=true` is answered.")
    codes: bool = Field(default=False, description="Whether the model has codes.")
    max_items: int
    reads_codes_of: list[str] = Field(
        default_factory=list, description="The models whose codes are read, the served one first."
    )
    metrics: dict[str, float]
    directions: list[DirectionAnswer] = Field(
        description="Where cars differ most, strongest first, and then those that have names; empty for a "
        "model without a fitted prior."
    )
    map: MapAnswer | None = Field(default=None, description="Null for a model without a map.")
    decoders: list[DecoderAnswer] = Field(
        default_factory=list,
        description="Those that may be loaded, for decoding without requests; empty unless the service gives "
        "them away.",
    )


class HealthAnswer(BaseModel):
    """The service is well."""

    status: Literal["ok"]
