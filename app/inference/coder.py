"""Coder: the codec of one model with its post-filter: codes of images, and images of codes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from app.codes.codec import CodeCodec, CodeImage
from app.codes.content import CodeContent
from app.codes.tables import Floats
from app.errors import ModelFolderError
from app.images.arrays import ImageArray
from app.images.quality import psnr, ssim
from app.model.manifest import ModelFolder

if TYPE_CHECKING:
    from app.inference.session import Session  # who only reads what codes say needs no ONNX Runtime

Decode = Callable[[Floats], ImageArray]
"""A latent (L,) float32 -> (height, width, 3) uint8."""


@dataclass(frozen=True, eq=False)
class PackedCode:
    """A code of an image, and what a reader will see of it.

    Attributes:
        image: (height, width, 3) uint8, the model's size.
        box: left, top, right and bottom of what is no border.
        psnr: dB, against the image that was coded.
        ssim: against the same.
    """

    code: bytes
    image: ImageArray
    box: tuple[int, int, int, int]
    psnr: float
    ssim: float


class Coder:
    """Codec and post-filter of one model. Nothing in it changes, so threads may share it."""

    def __init__(self, codec: CodeCodec, post_filter: "Session | None") -> None:
        """Put them together.

        Args:
            post_filter: of `app.inference.session.post_filter_graph`; None where the model has none.
        """
        self.codec = codec
        self._post_filter = post_filter

    def pack(
        self, image: ImageArray, latent: Floats, size: tuple[int, int], budgets: Sequence[int], decode: Decode
    ) -> list[PackedCode]:
        """The codes of an image, one for each budget in bytes; see CodeCodec.pack."""
        codes = self.codec.pack(image, latent, size, decode, budgets)
        packed = {code: _measured(code, image, self._seen(code, decode)) for code in set(codes)}
        return [packed[code] for code in codes]

    def _seen(self, code: bytes, decode: Decode) -> CodeImage:
        content = self.codec.unpack(code)
        return self.picture(content, decode(self.codec.latent(content)))

    def picture(self, content: CodeContent, decoded: ImageArray) -> CodeImage:
        """The image of what a code says; `decoded` (height, width, 3) uint8 is what the model's decoder makes
        of its latent."""
        return self.codec.picture(content, decoded, None if self._post_filter is None else self._filtered)

    def _filtered(self, layers: Floats, base: Floats, fineness: float) -> ImageArray:
        assert self._post_filter is not None
        (images,) = self._post_filter.run(layers[None], base[None], np.array([fineness], np.float32))
        image: ImageArray = images[0]
        return image


def read_codec(folder: ModelFolder) -> CodeCodec | None:
    """The codec of a model folder; None where it has no codes.

    Raises:
        ModelFolderError: its tables are none.
    """
    files = folder.manifest.codes
    if files is None:
        return None
    try:
        return CodeCodec.read(folder.content(files.tables), files.tag)
    except ValueError as error:
        raise ModelFolderError(f"{files.tables.path}: {error}; copy the folder again") from error


def _measured(code: bytes, image: ImageArray, picture: CodeImage) -> PackedCode:
    found = picture.image
    return PackedCode(
        code,
        found,
        picture.box,
        float(psnr(image[None], found[None])[0]),
        float(ssim(image[None], found[None])[0]),
    )
