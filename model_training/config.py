"""Recipes: what decides a training run, read from TOML and kept as JSON beside the weights."""

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class ModelConfig:
    """The architecture.

    Attributes:
        width, height: picture size in pixels, multiples of 2 ** len(channels).
        channels: output channels of each encoder stage; the decoder mirrors them.
        latent_dim: length of a latent vector.
    """

    width: int
    height: int
    channels: tuple[int, ...]
    latent_dim: int

    def __post_init__(self) -> None:
        if not self.channels or min(*self.channels, self.latent_dim, self.width, self.height) < 1:
            raise ValueError("model: width, height, channels and latent_dim must all be at least 1")
        divisor = 2 ** len(self.channels)
        if self.width % divisor or self.height % divisor:
            raise ValueError(
                f"model: each of {len(self.channels)} stages halves the picture, so width and height must be "
                f"multiples of {divisor}, not {self.width} x {self.height}"
            )


@dataclass(frozen=True)
class TrainingConfig:
    """The optimisation: Adam at a constant learning rate."""

    epochs: int
    batch_size: int
    learning_rate: float

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2 or self.learning_rate <= 0:
            raise ValueError("training: epochs >= 1, batch_size >= 2 and learning_rate > 0 are needed")


@dataclass(frozen=True)
class Recipe:
    """Everything that, with the data, decides the weights."""

    name: str
    seed: int
    model: ModelConfig
    training: TrainingConfig

    @classmethod
    def load(cls, name_or_path: str) -> Self:
        """Read a recipe by its name in recipes/ or by the path of a TOML file.

        Raises:
            ValueError: no such recipe, or one with unknown, missing or impossible settings.
        """
        path = Path(name_or_path) if name_or_path.endswith(".toml") else RECIPES / f"{name_or_path}.toml"
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
            raise ValueError(
                f"no recipe {name_or_path!r}; there are {known}, or give the path of a .toml file"
            )
        try:
            return cls.from_dict({"name": path.stem, **tomllib.loads(path.read_text())})
        except KeyError as error:
            raise ValueError(f"{path}: there is no {error}") from error
        except (tomllib.TOMLDecodeError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`. Unknown or missing keys raise TypeError."""
        model = dict(values["model"])
        model["channels"] = tuple(model["channels"])
        return cls(
            **{**values, "model": ModelConfig(**model), "training": TrainingConfig(**values["training"])}
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    def with_epochs(self, epochs: int) -> Self:
        """The same recipe over another number of epochs."""
        return dataclasses.replace(self, training=dataclasses.replace(self.training, epochs=epochs))
