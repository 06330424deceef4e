"""Packing: the search for an image's best codes within budgets of bytes."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import TypeVar

import numpy as np

from app.codes.content import CodeContent
from app.codes.latent_layer import LatentLayer, LatentValues
from app.codes.residual_layer import ResidualChoices, ResidualLayer
from app.codes.tables import Floats
from app.images.arrays import ImageArray

Decode = Callable[[Floats], ImageArray]
"""A latent (L,) float32 -> (height, width, 3) uint8."""
Values = TypeVar("Values")

ENVELOPE = 2
"""Bytes of a code that are tag and check."""
COARSER, FINER = 1, 3
"""Settings that are tried below and above one that is about as large as the budget."""
GUESSES = 3
"""Settings that are looked at to find that one."""
CHEAPEST, DEAREST = 0.05, 0.6
"""Bounds of what a bit may be worth, in squared steps, for a setting to fit."""
TRIES = 6
"""Most worths between them that are tried."""
CLOSE = 6.0
"""Bits that may be left over."""
EDGE = 0.1
"""Part of the way between two worths that a try keeps from either."""
ROUNDING = 2
"""Bits that the range coder takes beyond what the frequencies say."""


@dataclass(frozen=True)
class Coding:
    """What an image is coded by.

    Attributes:
        settings: (step of the latent, step of the residual or -1), the coarsest first.
        typical: bytes of a typical code of each.
        fixed_bits: what setting and shape take.
    """

    latents: LatentLayer
    residuals: ResidualLayer
    settings: Sequence[tuple[int, int]]
    typical: Floats
    fixed_bits: float


@dataclass(frozen=True)
class Original:
    """An image to be coded.

    Attributes:
        image: (height, width, 3), grey levels.
        latent: (L,) float32.
        shape: the number of its shape.
        inside: rows and columns of what is no border.
    """

    image: Floats
    latent: Floats
    shape: int
    inside: tuple[slice, slice]


class Packer:
    """Codes of one image; what is computed once is kept from budget to budget."""

    def __init__(
        self, coding: Coding, original: Original, decode: Decode, write: Callable[[CodeContent], bytes]
    ) -> None:
        self._coding = coding
        self._original = original
        self._decode = decode
        self._write = write
        self._coefficients = coding.latents.coefficients(original.latent)
        self._least_error: float | None = None
        self._latents: dict[int, tuple[LatentValues, float]] = {}
        self._components: dict[int, tuple[Floats, float]] = {}
        self._choices: dict[tuple[int, int], ResidualChoices] = {}
        self._bytes: dict[int, float] = {}

    def best(self, budget: int) -> bytes:
        """The best code of at most `budget` bytes.

        Settings as they are would leave some of the bytes over: those about the nearest one are
        brought to the very number by what a bit is worth, and the one with the least error is taken.

        Raises:
            ValueError: no code of this image is so short.
        """
        last = len(self._coding.settings) - 1
        about = self._about(budget)
        fitted: dict[int, tuple[float, CodeContent]] = {}
        lowest, highest = max(about - COARSER, 0), min(about + FINER, last)
        self._fit(range(lowest, highest + 1), budget, fitted)
        while not fitted and lowest > 0:
            lowest -= 1
            self._fit([lowest], budget, fitted)
        while fitted and highest < last and highest == min(fitted, key=lambda one: fitted[one][0]):
            highest += 1
            self._fit([highest], budget, fitted)
        for _, content in sorted(fitted.values(), key=lambda one: one[0]):
            code = self._write(content)
            if len(code) <= budget:
                return code
        return self._squeezed(budget)

    def _fit(
        self, settings: Iterable[int], budget: int, fitted: dict[int, tuple[float, CodeContent]]
    ) -> None:
        for setting in settings:
            found = self._fitted(setting, budget)
            if found is not None:
                fitted[setting] = found

    def _about(self, budget: int) -> int:
        """The setting whose bytes, as it is, are about those of a budget: typical ones, scaled by what this
        image takes."""
        typical = self._coding.typical
        guess, scale = -1, 1.0
        for _ in range(GUESSES):
            last, guess = guess, int(np.searchsorted(typical, budget / scale, side="right")) - 1
            guess = max(guess, 0)
            if guess == last:
                break
            scale = self._bytes_of(guess) / float(typical[guess])
        return guess

    def _bytes_of(self, setting: int) -> float:
        """Bytes of a setting as it is, to a fraction."""
        if setting not in self._bytes:
            latent_step, residual_step = self._coding.settings[setting]
            _, bits = self._latent(latent_step)
            if residual_step >= 0:
                bits += self._coding.residuals.choose(self._residual_choices(setting))[1]
            self._bytes[setting] = ENVELOPE + (bits + self._coding.fixed_bits) / 8
        return self._bytes[setting]

    def _fitted(self, setting: int, budget: int) -> tuple[float, CodeContent] | None:
        """Squared error and content of a setting at the least worth of a bit that keeps it within a budget;
        None where there is none."""
        latents, residuals = self._coding.latents, self._coding.residuals
        latent_step, residual_step = self._coding.settings[setting]
        room = 8 * (budget - ENVELOPE) - ROUNDING - self._coding.fixed_bits
        shape = self._original.shape
        if residual_step < 0:
            latent = _within(room, lambda worth: latents.quantise(self._coefficients, latent_step, worth))
            if latent is None:
                return None
            error = self._error_of_latent() + latents.error(self._coefficients, latent)
            return error, CodeContent(setting, shape, latent, None)
        latent, bits = self._latent(latent_step)
        components, outside = self._residual_components(latent_step)
        choices = self._residual_choices(setting)
        residual = _within(room - bits, lambda worth: residuals.choose(choices, worth))
        if residual is None:
            return None
        return outside + residuals.error(components, residual), CodeContent(setting, shape, latent, residual)

    def _latent(self, step: int) -> tuple[LatentValues, float]:
        if step not in self._latents:
            self._latents[step] = self._coding.latents.quantise(self._coefficients, step)
        return self._latents[step]

    def _error_of_latent(self) -> float:
        """Squared error of what the latent itself decodes to."""
        if self._least_error is None:
            self._least_error = float((self._missed(self._original.latent) ** 2).sum())
        return self._least_error

    def _missed(self, latent: Floats) -> Floats:
        """What a latent's image misses inside the border."""
        inside = self._original.inside
        residual = np.zeros_like(self._original.image)
        residual[inside] = self._original.image[inside] - self._decode(latent)[inside]
        return residual

    def _residual_components(self, latent_step: int) -> tuple[Floats, float]:
        """Components of what the first layer misses, and the squared error that they cannot mend."""
        if latent_step not in self._components:
            residual = self._missed(self._coding.latents.restore(self._latent(latent_step)[0]))
            components = self._coding.residuals.components(residual)
            # They are orthonormal.
            outside = float((residual**2).sum() - (components**2).sum())
            self._components[latent_step] = components, outside
        return self._components[latent_step]

    def _residual_choices(self, setting: int) -> ResidualChoices:
        steps = latent_step, residual_step = self._coding.settings[setting]
        if steps not in self._choices:
            components, _ = self._residual_components(latent_step)
            self._choices[steps] = self._coding.residuals.choices(components, residual_step)
        return self._choices[steps]

    def _squeezed(self, budget: int) -> bytes:
        """The coarsest setting's code without its last values, as many as it takes to fit."""
        (step, values), _ = self._latent(self._coding.settings[0][0])
        for kept in range(len(values) - 1, -1, -1):
            if values[kept]:
                values = np.where(np.arange(len(values)) < kept, values, 0)
                code = self._write(CodeContent(0, self._original.shape, LatentValues(step, values), None))
                if len(code) <= budget:
                    return code
        raise ValueError(f"no code of this image has {budget} bytes")


def _within(room: float, choose: Callable[[float], tuple[Values, float]]) -> Values | None:
    """Values whose bits fit into `room`, at the least worth of a bit at which they do.

    Args:
        choose: values and their bits at a worth of a bit; the more it is worth, the fewer there are.
    """
    low, high = log(CHEAPEST), log(DEAREST)
    values, most = choose(CHEAPEST)
    if most <= room:
        return values
    found, least = choose(DEAREST)
    if least > room:
        return None
    for _ in range(TRIES):
        if room - least < CLOSE:
            break
        way = min(max((most - room) / (most - least), EDGE), 1 - EDGE)
        worth = low + way * (high - low)
        values, bits = choose(exp(worth))
        if bits <= room:
            found, least, high = values, bits, worth
        else:
            most, low = bits, worth
    return found
