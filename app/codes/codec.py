"""Codec: an image of the model's size and its latent -> codes of at most so many bytes, and back."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from app.codes import range_coder, wire
from app.codes.latent_layer import LatentLayer, LatentValues
from app.codes.range_coder import DamagedBytesError, RangeDecoder
from app.codes.residual_layer import ResidualLayer, ResidualValues
from app.codes.shape import shape_box, shape_index
from app.codes.tables import CodeTables, Floats
from app.errors import DamagedCode
from app.images.arrays import ImageArray
from app.images.letterbox import fill

Decode = Callable[[Floats], ImageArray]
"""A latent (L,) float32 -> (height, width, 3) uint8."""
Filter = Callable[[Floats, Floats, float], ImageArray]
"""Both layers' image and the first one's, each (height, width, 3) in grey levels, and the setting from 0 to
1 -> (height, width, 3) uint8."""

ENVELOPE = 2
"""Bytes of a code that are tag and check."""
SMALLEST_BUDGET = 16
FINER = 3
"""Settings beyond the one that was found that are tried too."""


class CodeContent(NamedTuple):
    """What a code says."""

    setting: int
    shape: int
    latent: LatentValues
    residual: ResidualValues | None


@dataclass(frozen=True)
class CodeImage:
    """The image of a code."""

    image: ImageArray
    """(height, width, 3) uint8, the model's size."""
    box: tuple[int, int, int, int]
    """Left, top, right and bottom of what is no border."""

    def cropped(self) -> ImageArray:
        """The image in the shape of the original."""
        left, top, right, bottom = self.box
        return self.image[top:bottom, left:right]


class CodeCodec:
    """Writes and reads the codes of one model. Nothing in it changes, so threads may share it."""

    def __init__(self, tables: CodeTables, tag: int) -> None:
        """Prepare.

        Args:
            tables: the model's.
            tag: the first byte of its codes, as its manifest says.
        """
        self._tag = tag
        self._settings: list[tuple[int, int]] = [(int(a), int(b)) for a, b in tables.settings]
        self._typical = tables.setting_bytes
        self._width, self._height = tables.size.tolist()
        self._latents, self._residuals = LatentLayer(tables), ResidualLayer(tables)
        shape_starts = np.cumsum(tables.shape_frequencies) - tables.shape_frequencies
        self._shape_starts: list[int] = shape_starts.tolist()
        self._shape_sizes: list[int] = tables.shape_frequencies.tolist()
        count = len(self._settings)
        self._setting_starts = [range_coder.TOTAL * i // count for i in range(count)]

    @staticmethod
    def read(content: bytes, tag: int) -> "CodeCodec":
        """The codec of a file of tables.

        Raises:
            ValueError: it is none.
        """
        return CodeCodec(CodeTables.read(content), tag)

    @staticmethod
    def overhead_bits(tables: CodeTables) -> float:
        """What the shape takes in a typical code."""
        chances = tables.shape_frequencies / range_coder.TOTAL
        return float(-(chances * np.log2(chances)).sum())

    def pack(
        self, image: ImageArray, latent: Floats, size: tuple[int, int], decode: Decode, budgets: Sequence[int]
    ) -> list[bytes]:
        """The best codes of an image that fit into budgets of bytes.

        Args:
            image: (height, width, 3) uint8, fitted to the model's size.
            latent: (L,) float32, refined or not.
            size: width and height of the original.
            decode: the model's decoder.

        Raises:
            ValueError: the latent is not finite, or a budget is below SMALLEST_BUDGET.
        """
        if not np.isfinite(latent).all():
            raise ValueError("not all numbers of the latent are finite")
        if min(budgets) < SMALLEST_BUDGET:
            raise ValueError(f"a code takes up to {SMALLEST_BUDGET} bytes, not {min(budgets)}")
        packer = _Packer(self, image, latent, shape_index(size, self._width, self._height), decode)
        return [packer.best(min(budget, wire.LONGEST)) for budget in budgets]

    def unpack(self, code: bytes) -> CodeContent:
        """What a code says, in whole numbers that are the same on every machine.

        Raises:
            DamagedCode: a part is missing or altered.
            WrongModel: it is a whole code of another model or format.
        """
        payload = wire.unseal(self._tag, code)
        decoder = RangeDecoder(payload)
        try:
            setting = decoder.symbol(self._setting_starts)
            shape = decoder.symbol(self._shape_starts)
            latent_step, residual_step = self._settings[setting]
            latent = self._latents.read(decoder, latent_step)
            residual = None if residual_step < 0 else self._residuals.read(decoder, residual_step)
            decoder.finish()
        except DamagedBytesError as error:
            raise DamagedCode("no code has these bytes: a part of it is missing or altered") from error
        return CodeContent(setting, shape, latent, residual)

    def latent(self, content: CodeContent) -> Floats:
        """The latent (L,) float32 of a code's first layer."""
        return self._latents.restore(content.latent)

    def residual(self, content: CodeContent) -> Floats:
        """What its second layer adds to the decoder's picture: (height, width, 3) float32 in grey levels."""
        if content.residual is None:
            return np.zeros((self._height, self._width, 3), np.float32)
        return self._residuals.restore(content.residual)

    def box(self, content: CodeContent) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the original in the model's image."""
        return shape_box(content.shape, self._width, self._height)

    def fineness(self, content: CodeContent) -> float:
        """The code's setting, from 0 (coarse) to 1."""
        return content.setting / max(1, len(self._settings) - 1)

    def picture(self, content: CodeContent, decoded: ImageArray, post_filter: Filter | None) -> CodeImage:
        """The image of a code.

        Args:
            decoded: (height, width, 3) uint8, what the model's decoder makes of `latent`.
            post_filter: the model's network for what both layers give; None where it has none.
        """
        base = decoded.astype(np.float32)
        layers = base + self.residual(content)
        if post_filter is None:
            image = np.clip(np.rint(layers), 0, 255).astype(np.uint8)
        else:
            image = post_filter(layers, base, self.fineness(content))
        left, top, right, bottom = box = self.box(content)
        # The border of a letterboxed image follows from what it surrounds.
        bordered = fill(np.ascontiguousarray(image[top:bottom, left:right]), self._width, self._height)
        return CodeImage(bordered, box)

    def write(self, content: CodeContent) -> bytes:
        """The code that says it."""
        start, shape = self._setting_starts[content.setting], content.shape
        following = [*self._setting_starts[1:], range_coder.TOTAL][content.setting]
        intervals = [(start, following - start), (self._shape_starts[shape], self._shape_sizes[shape])]
        intervals += self._latents.intervals(content.latent)
        if content.residual is not None:
            intervals += self._residuals.intervals(content.residual)
        return wire.seal(self._tag, range_coder.encode(intervals))


class _Packer:
    """Looks for the finest setting of one image that fits into a budget; what is computed once is kept."""

    def __init__(
        self, codec: CodeCodec, image: ImageArray, latent: Floats, shape: int, decode: Decode
    ) -> None:
        self._codec = codec
        self._image = image.astype(np.float32)
        self._coefficients = codec._latents.coefficients(latent)
        self._shape = shape
        self._decode = decode
        self._fixed_bits = math.log2(range_coder.TOTAL / codec._shape_sizes[shape]) + math.log2(
            len(codec._settings)
        )
        self._latents: dict[int, tuple[LatentValues, float]] = {}
        self._components: dict[int, Floats] = {}
        self._contents: dict[int, tuple[CodeContent, float]] = {}

    def best(self, budget: int) -> bytes:
        """The finest code of at most `budget` bytes."""
        found = self._finest(budget)
        # An image's bytes do not rise evenly from setting to setting: one a little finer may fit too.
        finer = range(found + 1, min(found + 1 + FINER, len(self._codec._settings)))
        finest = max((one for one in finer if self._content(one)[1] <= budget), default=found)
        for setting in range(finest, -1, -1):
            code = self._codec.write(self._content(setting)[0])
            if len(code) <= budget:
                return code
        return self._squeezed(budget)

    def _finest(self, budget: int) -> int:
        """The finest setting whose bits are likely to fit."""
        low, high = 0, len(self._codec._settings) - 1
        guess = int(np.searchsorted(self._codec._typical, budget))
        while low < high:
            guess = min(max(guess, low + 1), high)
            bytes_ = self._content(guess)[1]
            if bytes_ <= budget:
                low = guess
            else:
                high = guess - 1
            # Typical bytes scaled by what this image takes lead to the next guess.
            guess = int(np.searchsorted(self._codec._typical, budget * self._codec._typical[guess] / bytes_))
        return low

    def _content(self, setting: int) -> tuple[CodeContent, float]:
        """What the code of a setting says, and its bytes, to a fraction."""
        if setting not in self._contents:
            latent_step, residual_step = self._codec._settings[setting]
            latent, bits = self._latent(latent_step)
            residual = None
            if residual_step >= 0:
                components = self._residual_components(latent_step)
                residual, more = self._codec._residuals.quantise(components, residual_step)
                bits += more
            content = CodeContent(setting, self._shape, latent, residual)
            self._contents[setting] = content, ENVELOPE + (bits + self._fixed_bits) / 8
        return self._contents[setting]

    def _latent(self, step: int) -> tuple[LatentValues, float]:
        if step not in self._latents:
            self._latents[step] = self._codec._latents.quantise(self._coefficients, step)
        return self._latents[step]

    def _residual_components(self, latent_step: int) -> Floats:
        if latent_step not in self._components:
            restored = self._codec._latents.restore(self._latent(latent_step)[0])
            left, top, right, bottom = shape_box(self._shape, self._codec._width, self._codec._height)
            residual = np.zeros_like(self._image)
            inside = slice(top, bottom), slice(left, right)
            residual[inside] = self._image[inside] - self._decode(restored)[inside]
            self._components[latent_step] = self._codec._residuals.components(residual)
        return self._components[latent_step]

    def _squeezed(self, budget: int) -> bytes:
        """The coarsest setting's code without its last values, as many as it takes to fit."""
        (step, values), _ = self._latent(self._codec._settings[0][0])
        for kept in range(len(values) - 1, -1, -1):
            if values[kept]:
                values = np.where(np.arange(len(values)) < kept, values, 0)
                content = CodeContent(0, self._shape, LatentValues(step, values), None)
                code = self._codec.write(content)
                if len(code) <= budget:
                    return code
        raise ValueError(f"no code of this image has {budget} bytes")
