"""Settings of the prior: every hyper-parameter of its fit, as the [prior] tables of a recipe give them."""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self, TypeVar, get_type_hints

import numpy as np
from numpy.typing import NDArray

RECORD = "config"
"""Name of the array in prior.npz that holds the settings it was fitted by, as JSON."""


class Limit(NamedTuple):
    """A condition on a number, in words and as code."""

    words: str
    holds: Callable[[float], bool]


Whole = Annotated[int, Limit("at least 0", lambda value: value >= 0)]
Count = Annotated[int, Limit("at least 1", lambda value: value >= 1)]
Amount = Annotated[float, Limit("at least 0 and finite", lambda value: 0 <= value < math.inf)]
Positive = Annotated[float, Limit("above 0 and finite", lambda value: 0 < value < math.inf)]
Fraction = Annotated[float, Limit("at least 0 and below 1", lambda value: 0 <= value < 1)]
Betas = Annotated[tuple[float, float], Limit("at least 0 and below 1", lambda value: 0 <= value < 1)]


@dataclass(frozen=True)
class LatentImagesConfig:
    """Latents as small images, in which convolutions find what dense layers learn by heart.

    Attributes:
        cell: a latent image has one cell for so many pixels each way.
        pooling: images are made so much smaller before cells are cut from them.
        values: principal components of what a cell holds. From noise of variance 1 coordinates are read with
            a standard deviation of 0.57; of 12 components, with 0.46, and of 6, with 0.91.
        ridge: added to the variances of latents, it decides where there are fewer images than coordinates.
    """

    cell: Count = 8
    pooling: Count = 2
    values: Count = 8
    ridge: Amount = 1e-6


@dataclass(frozen=True)
class VelocityFieldConfig:
    """What all velocity fields have in common.

    Attributes:
        time_width: of the time embedding.
        groups: of group norm; it divides the channels of each field.
        dropout, channel_dropout: of dense layers, and of whole channels in convolutional ones.
    """

    time_width: Count = 128
    groups: Count = 8
    dropout: Fraction = 0.1
    channel_dropout: Fraction = 0.05


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW, as all networks of the prior learn; learning rates fall along half a cosine.

    Attributes:
        warm_up_steps: in which the learning rate rises.
        average: decay, per step, of the moving average of the weights, which is what is kept.
        max_gradient_norm: longer gradients are shortened to it.

    `weight_decay` and `average` are of flow matching and distillation; distribution matching has its own.
    """

    warm_up_steps: Count = 200
    weight_decay: Amount = 0.01
    average: Fraction = 0.999
    max_gradient_norm: Positive = 1.0


@dataclass(frozen=True)
class CoarseFieldConfig:
    """A velocity field of the leading coordinates: the teacher, or the weak one that guides it.

    Attributes:
        channels, blocks: of its convolutions.
        dense_width, dense_blocks: of its dense layers.
        global_width: of the dense layers between latent images of half the size.
        steps_ratio: it learns for so many times the steps of the prior.
    """

    channels: Count
    blocks: Count
    dense_width: Count
    dense_blocks: Count
    global_width: Count
    steps_ratio: Positive
    batch_size: Count
    learning_rate: Positive


@dataclass(frozen=True)
class FineFieldConfig:
    """A velocity field of the trailing coordinates, by convolutions: the teacher, or the weak one.

    Attributes:
        steps_ratio: it learns for so many times the steps of the fine flow.
    """

    channels: Count
    blocks: Count
    steps_ratio: Positive
    batch_size: Count
    learning_rate: Positive


@dataclass(frozen=True)
class PathsConfig:
    """Paths of the guided teacher, whose two ends the student learns from.

    Attributes:
        count: of paths; fewer where the student would not see so many in as many steps as its teacher's.
        steps_per_path: of Adams-Bashforth's second order.
        guidance: how much further than it goes the teacher is followed, in units of its difference to the
            weak field.
        guided_from: from which time on, in 0..1.
    """

    count: Count
    steps_per_path: Count
    guidance: Amount
    guided_from: Fraction


@dataclass(frozen=True)
class CoarseStudentConfig:
    """The dense network of leading coordinates that is kept, and its distillation from the paths.

    Attributes:
        steps_ratio: it learns for so many times the steps of the prior.
    """

    width: Count
    depth: Count
    steps_ratio: Positive
    batch_size: Count
    learning_rate: Positive


@dataclass(frozen=True)
class FineStudentConfig:
    """The convolutional network of trailing coordinates that is kept, and its distillation from the paths.

    Attributes:
        residual: how much its blocks add at first.
        steps_ratio: it learns for so many times the steps of the fine flow.
    """

    channels: Count
    blocks: Count
    residual: Amount
    steps_ratio: Positive
    batch_size: Count
    learning_rate: Positive


@dataclass(frozen=True)
class MatchingConfig:
    """Distribution matching distillation: the student's last part, and the fake score network beside it.

    Attributes:
        steps_ratio: the student goes on for so many times the steps of its flow.
        betas, average: of the student's Adam, and of its moving average.
        guidance: of the teacher.
        regression_weight: what the distance to the paths' ends weighs; 0 leaves it out.
        fake_steps_ratio: for so many times the steps of its flow the fake score network learns before.
        fake_update_ratio: steps of the fake score network for one of the student's.
        fake_first_learning_rate, fake_learning_rate: before the student goes on, and after.
    """

    steps_ratio: Positive
    batch_size: Count
    learning_rate: Positive
    guidance: Amount
    regression_weight: Amount
    fake_batch_size: Count
    fake_steps_ratio: Positive = 0.5
    fake_update_ratio: Count = 2
    fake_first_learning_rate: Positive = 1e-3
    fake_learning_rate: Positive = 5e-4
    fake_betas: Betas = (0.9, 0.99)
    betas: Betas = (0.5, 0.99)
    average: Fraction = 0.99


@dataclass(frozen=True)
class DenseFakeConfig:
    """The fake score network of leading coordinates, of dense layers."""

    width: Count
    blocks: Count


@dataclass(frozen=True)
class ConvFakeConfig:
    """The fake score network of trailing coordinates, of convolutions."""

    channels: Count
    blocks: Count


@dataclass(frozen=True)
class CoarseConfig:
    """The flow of the leading whitened coordinates, which say what is coarse.

    Attributes:
        coordinates: how many lead.
        matching: with a fifth of the teacher's steps before, its fake score network leads the student astray.
    """

    coordinates: Count = 64
    teacher: CoarseFieldConfig = CoarseFieldConfig(
        channels=64,
        blocks=4,
        dense_width=640,
        dense_blocks=3,
        global_width=512,
        steps_ratio=1.0,
        batch_size=256,
        learning_rate=1.2e-3,
    )
    weak: CoarseFieldConfig = CoarseFieldConfig(
        channels=32,
        blocks=2,
        dense_width=256,
        dense_blocks=2,
        global_width=512,
        steps_ratio=0.12,
        batch_size=256,
        learning_rate=1.2e-3,
    )
    paths: PathsConfig = PathsConfig(count=65_536, steps_per_path=12, guidance=0.75, guided_from=0.3)
    student: CoarseStudentConfig = CoarseStudentConfig(
        width=320, depth=6, steps_ratio=2.0, batch_size=512, learning_rate=1e-3
    )
    fake: DenseFakeConfig = DenseFakeConfig(width=384, blocks=3)
    matching: MatchingConfig = MatchingConfig(
        steps_ratio=0.6,
        batch_size=256,
        learning_rate=2e-4,
        guidance=0.5,
        regression_weight=0.1,
        fake_batch_size=512,
    )


@dataclass(frozen=True)
class FineConfig:
    """The flow of the trailing whitened coordinates, which say what is fine, given the leading ones.

    Attributes:
        steps_ratio: it has so many times the steps of the prior; they take longer.
        draws: of the coarse flow, for it to fit to, beside the leading coordinates of images.
        paths: more guidance gives stronger edges, and too much colour; the student takes some of it back.
        matching: nothing is taken back here, so less guidance is enough.
    """

    steps_ratio: Positive = 0.4
    draws: Count = 16_384
    teacher: FineFieldConfig = FineFieldConfig(
        channels=96, blocks=4, steps_ratio=1.0, batch_size=192, learning_rate=1.5e-3
    )
    weak: FineFieldConfig = FineFieldConfig(
        channels=32, blocks=1, steps_ratio=0.125, batch_size=192, learning_rate=1.5e-3
    )
    paths: PathsConfig = PathsConfig(count=32_768, steps_per_path=10, guidance=1.4, guided_from=0.0)
    student: FineStudentConfig = FineStudentConfig(
        channels=32, blocks=3, residual=0.3, steps_ratio=2.5, batch_size=256, learning_rate=3e-3
    )
    fake: ConvFakeConfig = ConvFakeConfig(channels=64, blocks=2)
    matching: MatchingConfig = MatchingConfig(
        steps_ratio=1.5,
        batch_size=128,
        learning_rate=1e-4,
        guidance=0.65,
        regression_weight=0.0,
        fake_batch_size=128,
    )


@dataclass(frozen=True)
class PriorConfig:
    """Everything that, with a trained encoder and the images, decides the prior.

    Attributes:
        steps: of the coarse flow. Each `steps_ratio` is in units of the steps of the flow that it belongs to.
        seed: of all that is drawn; held-out images take the next one.
        copies: changed copies of each image, beside itself and its mirror image: with fewer the flow soon
            knows its latents by heart.
        augmentation: how much the copies are changed, in units of what training does.
        shrinkage: added to each variance, it keeps the covariance of few images invertible.
    """

    steps: Count = 5_000
    seed: Whole = 0
    copies: Whole = 10
    augmentation: Amount = 0.5
    shrinkage: Amount = 1e-3
    latent_images: LatentImagesConfig = LatentImagesConfig()
    velocity_fields: VelocityFieldConfig = VelocityFieldConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    coarse: CoarseConfig = CoarseConfig()
    fine: FineConfig = FineConfig()

    def __post_init__(self) -> None:
        _check_limits(self, "prior")
        cells = self.latent_images
        if cells.cell % cells.pooling or cells.values > 3 * (cells.cell // cells.pooling) ** 2:
            raise ValueError(
                "prior.latent_images: cell must be a multiple of pooling, values no more than a cell holds"
            )
        coarse, fine = self.coarse, self.fine
        for network in (coarse.teacher, coarse.weak, fine.teacher, fine.weak, fine.fake):
            if network.channels % self.velocity_fields.groups:
                raise ValueError(
                    f"prior: channels of velocity fields must be multiples of {self.velocity_fields.groups}, "
                    f"the groups of their norm, not {network.channels}"
                )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The defaults with what is given in their place; so it is the inverse of `to_dict`, too.

        Raises:
            TypeError: unknown settings, or values of another type.
            ValueError: values out of range.
        """
        return _replace(cls(), values, "prior")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    def record(self) -> NDArray[np.str_]:
        """The settings for prior.npz, under the name RECORD."""
        return np.array(json.dumps(self.to_dict()))

    @classmethod
    def recorded(cls, path: Path) -> Self | None:
        """What a prior.npz was fitted by; None where it does not say so, as older ones do not."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls.from_dict(json.loads(str(arrays[RECORD]))) if RECORD in arrays else None


Config = TypeVar("Config")


def _replace(default: Config, values: Any, table: str) -> Config:
    """A configuration with the settings of a table in the place of its own, and of the tables inside."""
    if not isinstance(values, Mapping):
        raise TypeError(f"{table} must be a table, not {values!r}")
    known: dict[str, Any] = {
        field.name: getattr(default, field.name)
        for field in dataclasses.fields(default)  # type: ignore[arg-type]
    }
    unknown = [name for name in values if name not in known]
    if unknown:
        raise TypeError(f"{table} has no {', '.join(unknown)}; there are {', '.join(known)}")
    read = {name: _read(known[name], value, f"{table}.{name}") for name, value in values.items()}
    changed: Config = dataclasses.replace(default, **read)  # type: ignore[type-var]
    return changed


def _read(default: Any, value: Any, name: str) -> Any:
    """A value of the type of the default."""
    if dataclasses.is_dataclass(default):
        return _replace(default, value, name)
    if isinstance(default, tuple):
        if not isinstance(value, list | tuple) or len(value) != len(default):
            raise TypeError(f"{name} must be {len(default)} numbers, not {value!r}")
        return tuple(_read(part, number, name) for part, number in zip(default, value, strict=True))
    numbers = int if isinstance(default, int) else int | float
    if isinstance(value, bool) or not isinstance(value, numbers):
        raise TypeError(f"{name} must be a {'whole ' if numbers is int else ''}number, not {value!r}")
    return type(default)(value)


def _check_limits(config: Any, table: str) -> None:
    """Hold each number of a configuration, and of those inside, against the limit in its type."""
    for name, hint in get_type_hints(type(config), include_extras=True).items():
        value = getattr(config, name)
        if dataclasses.is_dataclass(value):
            _check_limits(value, f"{table}.{name}")
            continue
        (limit,) = hint.__metadata__
        if not all(limit.holds(number) for number in (value if isinstance(value, tuple) else (value,))):
            raise ValueError(f"{table}.{name} must be {limit.words}, not {value}")
