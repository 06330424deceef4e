"""Codec: an image of the model's size and its latent -> codes of at most so many bytes, and back."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from app.codes import range_coder, wire
from app.codes.content import CodeContent
from app.codes.latent_layer import LatentLayer
from app.codes.packing import Coding, Decode, Original, Packer
from app.codes.range_coder import DamagedBytesError, RangeDecoder
from app.codes.residual_layer import ResidualLayer
from app.codes.shape import shape_box, shape_index
from app.codes.tables import CodeTables, Floats
from app.errors import DamagedCode
from app.images.arrays import ImageArray
from app.images.letterbox import fill

Filter = Callable[[Floats, Floats, float], ImageArray]
"""Both layers' image and the first one's, each (height, width, 3) in grey levels, and the setting from 0 to
1 -> (height, width, 3) uint8."""

SMALLEST_BUDGET = 16


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
        shape = shape_index(size, self._width, self._height)
        left, top, right, bottom = shape_box(shape, self._width, self._height)
        inside = slice(top, bottom), slice(left, right)
        original = Original(image.astype(np.float32), np.asarray(latent, np.float32), shape, inside)
        fixed_bits = math.log2(range_coder.TOTAL / self._shape_sizes[shape]) + math.log2(len(self._settings))
        coding = Coding(self._latents, self._residuals, self._settings, self._typical, fixed_bits)
        packer = Packer(coding, original, decode, self.write)
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
