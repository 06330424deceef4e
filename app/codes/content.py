"""Content: what a code says, in whole numbers that are the same on every machine."""

from typing import NamedTuple

from app.codes.latent_layer import LatentValues
from app.codes.residual_layer import ResidualValues


class CodeContent(NamedTuple):
    """What a code says."""

    setting: int
    shape: int
    latent: LatentValues
    residual: ResidualValues | None
