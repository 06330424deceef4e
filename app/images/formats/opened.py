"""Opened images: the header is read and screened, nothing decoded yet; what all readers share."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from isal import isal_zlib
from PIL import Image, ImageFile

from app.errors import ImageTooLarge, UnreadableImage

INVALID_DATA: type[Exception] = isal_zlib.error  # type: ignore[assignment]
"""What ISA-L raises where data cannot be unpacked; its stubs give it a type of its own."""
Box = tuple[float, float, float, float]
Draft = Callable[[tuple[int, int]], Box | None]

MAX_SIDE = 65_535
"""Longest side of an image, which is a JPEG's: Pillow takes memory for every row, however short."""
FINISHED = -1


@dataclass(frozen=True)
class OpenedImage:
    """An image whose header is read.

    Attributes:
        format: the name of its format.
        size: width and height in pixels, as they lie in the file.
        load: decodes the image, whole, or raises.
        orientation: how it is turned (EXIF, 1 to 8).
        profile: the embedded colour profile, if any.
        draft: asks for a smaller scale, not below a size, and gives the box that the image takes of it.
    """

    format: str
    size: tuple[int, int]
    load: Callable[[], Image.Image]
    orientation: int = 1
    profile: bytes | None = None
    draft: Draft | None = None


def check_size(width: int, height: int, max_pixels: int, kind: str) -> None:
    """Raises ImageTooLarge for a side longer than MAX_SIDE, or more pixels than are allowed."""
    if max(width, height) > MAX_SIDE:
        raise ImageTooLarge(
            f"the picture has {width} x {height} pixels; no side may be longer than {MAX_SIDE}"
        )
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"the picture has {width} x {height} pixels; at most {max_pixels} pixels are allowed in a {kind}"
        )


def decode_tile(
    image: ImageFile.ImageFile, pieces: Callable[["Decoder"], Iterable[bytes | memoryview]]
) -> None:
    """Feed the one tile of an opened image to its decoder, piece by piece, until all its rows are there.

    Pillow's own loop would give the decoder the marks that end the data, and the decoders take such a mark
    for the end of the image, however many rows are missing. Pieces without it leave the decoder waiting.

    Raises:
        UnreadableImage: the data is broken, or ends before the last row.
    """
    image.load_prepare()
    tile = image.tile[0]
    decoder = Decoder(image, tile.codec_name, tile.args, image.decoderconfig, tile.extents)
    try:
        for piece in pieces(decoder):
            if decoder.feed(piece):
                break
        else:
            raise UnreadableImage("the picture is damaged or incomplete")
    finally:
        decoder.close()
    image.tile = []
    image.readonly = 0


class Decoder:
    """One of Pillow's decoders, and what it has not consumed yet."""

    def __init__(
        self,
        image: Image.Image,
        codec: str,
        args: Any,
        config: tuple[Any, ...],
        extents: tuple[int, int, int, int] | None,
    ) -> None:
        self._decoder = Image._getdecoder(image.mode, codec, args, config)
        self._decoder.setimage(image.im, extents)
        self.left: bytes = b""

    def feed(self, piece: bytes | memoryview) -> bool:
        """Decode so much more; true when the last row is done.

        Raises:
            UnreadableImage: the data is broken.
        """
        data = self.left + piece if self.left else piece
        consumed, error = self._decoder.decode(data)
        if error:
            raise UnreadableImage("the picture is damaged or incomplete")
        self.left = b"" if consumed < 0 else bytes(data[consumed:])
        return bool(consumed == FINISHED)

    def close(self) -> None:
        """Free what the decoder holds."""
        self._decoder.cleanup()
