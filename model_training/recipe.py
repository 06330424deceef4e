"""Recipe of a run: every setting that, with the data, decides the weights; read from TOML, kept as JSON."""

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, get_args

from model_training.prior_recipe import PriorConfig

RECIPES = Path(__file__).parent / "recipes"

Schedule = Literal["constant", "cosine"]


@dataclass(frozen=True)
class ConvVaeConfig:
    """Strided convolutions down, transposed ones up; pixels are Bernoulli.

    Attributes:
        width, height: image size in pixels, multiples of 2 ** len(channels).
        channels: output channels of each encoder stage; the decoder mirrors them.
        latent_dim: length of a latent vector.
    """

    width: int
    height: int
    channels: tuple[int, ...]
    latent_dim: int
    architecture: Literal["convolutional"] = "convolutional"

    def __post_init__(self) -> None:
        if not self.channels or min(*self.channels, self.latent_dim, self.width, self.height) < 1:
            raise ValueError("model: width, height, channels and latent_dim must all be at least 1")
        divisor = 2 ** len(self.channels)
        if self.width % divisor or self.height % divisor:
            raise ValueError(
                f"model: each of {len(self.channels)} stages halves the image, so width and height must be "
                f"multiples of {divisor}, not {self.width} x {self.height}"
            )


@dataclass(frozen=True)
class PcaVaeConfig:
    """A linear codec begun as principal component analysis, corrected by networks; pixels are Gaussian.

    Attributes:
        width, height: image size in pixels, multiples of 4.
        latent_dim: length of a latent vector.
        hidden: width of the dense layers that correct the linear maps.
        features: channels of a quarter of the size that the decoder draws from a latent.
        channels: of the convolutions at half and at a quarter of the size; the latter include the features.
    """

    width: int
    height: int
    latent_dim: int
    hidden: int
    features: int
    channels: tuple[int, int]
    architecture: Literal["principal"] = "principal"

    def __post_init__(self) -> None:
        sizes = (self.width, self.height, self.latent_dim, self.hidden, self.features, *self.channels)
        if len(self.channels) != 2 or min(sizes) < 1 or self.channels[1] <= self.features:
            raise ValueError("model: sizes must be at least 1, channels two, the second more than features")
        if self.width % 4 or self.height % 4:
            raise ValueError(
                f"model: width and height must be multiples of 4, not {self.width} x {self.height}"
            )
        if self.latent_dim > self.width * self.height * 3 // 4:
            raise ValueError("model: an image of half the size has fewer values than latent_dim")


@dataclass(frozen=True)
class SubpixelVaeConfig:
    """A linear codec begun as principal component analysis, corrected by convolutions over cells of 4 x 4
    pixels; pixels are Gaussian.

    Attributes:
        width, height: image size in pixels, multiples of 8.
        latent_dim: length of a latent vector.
        hidden: width of the dense layers that correct the linear maps.
        encoder_channels: of the encoder's convolutions, at a quarter of the size, at an eighth, and the last.
        rank: width through which the decoder draws its features.
        features: channels that it draws from a latent.
        channels: of its convolutions; the features are among those of the first.
        depth: its convolutions between the first and the last.
    """

    width: int
    height: int
    latent_dim: int
    hidden: int
    encoder_channels: tuple[int, int, int]
    rank: int
    features: int
    channels: int
    depth: int
    architecture: Literal["subpixel"] = "subpixel"

    def __post_init__(self) -> None:
        sizes = (self.width, self.height, self.latent_dim, self.hidden, self.rank, self.features, self.depth)
        if len(self.encoder_channels) != 3 or min(*sizes, *self.encoder_channels) < 1:
            raise ValueError("model: sizes must be at least 1, encoder_channels three")
        if self.channels <= self.features:
            raise ValueError("model: there must be more channels than features")
        if self.width % 8 or self.height % 8:
            raise ValueError(
                f"model: width and height must be multiples of 8, not {self.width} x {self.height}"
            )
        if self.latent_dim > self.width * self.height * 3 // 4:
            raise ValueError("model: an image of half the size has fewer values than latent_dim")


ModelConfig = ConvVaeConfig | PcaVaeConfig | SubpixelVaeConfig

ARCHITECTURES: dict[str, type[ModelConfig]] = {
    "convolutional": ConvVaeConfig,
    "principal": PcaVaeConfig,
    "subpixel": SubpixelVaeConfig,
}


@dataclass(frozen=True)
class TrainingConfig:
    """The optimisation, by Adam.

    Attributes:
        learning_rate: the highest; "constant" keeps it, "cosine" rises to it over WARM_UP_STEPS and falls to
            zero along half a cosine over all epochs.
        linear_rate: the linear codec learns at this fraction of the learning rate.
        average: decay, per step, of the moving average of the weights that is validated and exported; 0 takes
            the weights themselves.
        augment: shift, stretch and recolour the images a little, beside mirroring them.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    schedule: Schedule = "constant"
    linear_rate: float = 1.0
    average: float = 0.0
    augment: bool = False

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2 or self.learning_rate <= 0:
            raise ValueError("training: epochs >= 1, batch_size >= 2 and learning_rate > 0 are needed")
        if self.schedule not in get_args(Schedule):
            raise ValueError(f"training: schedule is one of {', '.join(get_args(Schedule))}")
        if not 0 <= self.average < 1 or self.linear_rate < 0:
            raise ValueError("training: 0 <= average < 1 and linear_rate >= 0 are needed")


@dataclass(frozen=True)
class FeatureConfig:
    """A feature network, as evaluation/simclr.py trains it, but for the size of its images.

    Attributes:
        channels: output channels of the stages.
        first_stride: what the first stage divides the sides of the image by; the others divide them by two.
        features: length of a feature vector.
        temperature: of the softmax over cosines.
    """

    seed: int
    channels: tuple[int, ...]
    first_stride: int
    features: int
    epochs: int
    batch_size: int
    learning_rate: float
    temperature: float


@dataclass(frozen=True)
class FinetuningConfig:
    """Fine-tuning: the decoder and the encoder's convolutions go on with a feature loss.

    Attributes:
        learning_rate: the highest; it falls along half a cosine.
        feature_weight: of the feature loss, beside the squared error in units of what is left of it.
        refined: fraction of each batch whose latents are refined before they are decoded.
        refinement_steps: of the refiner there.
        features: the network of the loss, its own: those that judge have never been learnt from.
    """

    steps: int
    batch_size: int
    learning_rate: float
    feature_weight: float
    refined: float
    refinement_steps: int
    features: FeatureConfig

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size, self.refinement_steps) < 1 or self.learning_rate <= 0:
            raise ValueError("finetuning: steps, sizes and learning_rate must be positive")
        if self.feature_weight < 0 or not 0 <= self.refined < 1:
            raise ValueError("finetuning: feature_weight >= 0 and 0 <= refined < 1 are needed")


@dataclass(frozen=True)
class Recipe:
    """Everything that, with the data, decides the weights."""

    name: str
    seed: int
    model: ModelConfig
    training: TrainingConfig
    prior: PriorConfig = field(default_factory=PriorConfig)
    finetuning: FinetuningConfig | None = None

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
        """The inverse of `to_dict`. What a recipe does not say of the prior takes its defaults.

        Raises:
            TypeError: unknown or missing settings, or values of another type.
            ValueError: values out of range.
        """
        # Stages that runs recorded before there was fine-tuning; nothing reads their settings any more.
        values = {name: value for name, value in values.items() if name not in ("adversarial", "sharpening")}
        model = dict(values["model"])
        kind = model.setdefault("architecture", "convolutional")
        if kind not in ARCHITECTURES:
            raise ValueError(f"model: architecture is one of {', '.join(ARCHITECTURES)}")
        model = {name: tuple(value) if isinstance(value, list) else value for name, value in model.items()}
        finetuning = dict(values["finetuning"]) if values.get("finetuning") else None
        if finetuning is not None:
            features = dict(finetuning["features"])
            finetuning["features"] = FeatureConfig(**{**features, "channels": tuple(features["channels"])})
        return cls(
            **{
                **values,
                "model": ARCHITECTURES[kind](**model),
                "training": TrainingConfig(**values["training"]),
                "prior": PriorConfig.from_dict(values.get("prior", {})),
                "finetuning": None if finetuning is None else FinetuningConfig(**finetuning),
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    def with_epochs(self, epochs: int) -> Self:
        """The same recipe over another number of epochs."""
        return dataclasses.replace(self, training=dataclasses.replace(self.training, epochs=epochs))

    def with_finetuning_steps(self, steps: int | None) -> Self:
        """The same recipe with so many steps of fine-tuning; as it is where it has none, or for None."""
        if steps is None or self.finetuning is None:
            return self
        return dataclasses.replace(self, finetuning=dataclasses.replace(self.finetuning, steps=steps))
