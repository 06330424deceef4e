"""GIF files: the first frame on the screen that the file announces."""

from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from app.errors import UnreadableImage
from app.images.formats.opened import Decoder, OpenedImage, check_size

SIGNATURES = (b"GIF87a", b"GIF89a")
MAX_BLOCKS = 200_000
"""Most blocks of up to 255 bytes that are looked at: each is a turn of a loop in Python."""

EXTENSION, FRAME, CONTROL = 0x21, 0x2C, 0xF9
NO_TRANSPARENCY = -1


@dataclass
class Structure:
    """What precedes the data of the first frame (GIF89a, 18 to 23)."""

    screen: tuple[int, int]
    box: tuple[int, int, int, int] = (0, 0, 0, 0)
    palette: bytes = b""
    transparent: int | None = None
    interlaced: bool = False
    bits: int = 0
    start: int = 0

    @property
    def canvas(self) -> tuple[int, int]:
        """The screen, or more where the frame does not lie within it."""
        return max(self.screen[0], self.box[2]), max(self.screen[1], self.box[3])


def open_gif(data: bytes, _: int, max_pixels: int) -> OpenedImage:
    """Read what precedes the first frame.

    Raises:
        UnreadableImage, ImageTooLarge.
    """
    structure = read_structure(data)
    check_size(*structure.canvas, max_pixels, "GIF")
    return OpenedImage("GIF", structure.canvas, lambda: _load(data, structure))


def read_structure(data: bytes) -> Structure:
    """Walk to the first frame.

    Raises:
        UnreadableImage: there is none, or the file is cut into too many pieces before it.
    """
    if len(data) < 13:
        raise UnreadableImage("the picture's header is damaged")
    structure = Structure((int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")))
    at, structure.palette = _palette(data, 13, data[10])
    blocks = 0
    while at < len(data):
        if data[at] == FRAME and at + 10 < len(data):
            left, top, width, height = (
                int.from_bytes(data[p : p + 2], "little") for p in range(at + 1, at + 9, 2)
            )
            if not width or not height:
                break
            structure.box = left, top, left + width, top + height
            structure.interlaced = bool(data[at + 9] & 0x40)
            at, local = _palette(data, at + 10, data[at + 9])
            structure.palette = local or structure.palette
            if at >= len(data):
                break
            structure.bits, structure.start = data[at], at + 1
            return structure
        if data[at] != EXTENSION:  # the file ends, or is broken
            break
        if data[at + 1 : at + 3] == bytes((CONTROL, 4)):
            structure.transparent = data[at + 6] if len(data) > at + 6 and data[at + 3] & 1 else None
        at += 2
        while at < len(data) and data[at]:
            at += 1 + data[at]
            blocks += 1
        at += 1
        blocks += 1
        if blocks > MAX_BLOCKS:
            raise UnreadableImage("the picture is cut into too many pieces")
    raise UnreadableImage("the picture's header is damaged")


def _palette(data: bytes, at: int, flags: int) -> tuple[int, bytes]:
    """Where the palette that starts at a place ends, and its bytes, if the flags say that there is one."""
    end = at + 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else at
    return end, data[at:end]


def _load(data: bytes, structure: Structure) -> Image.Image:
    left, top, right, bottom = structure.box
    size = right - left, bottom - top
    image = Image.new("P" if structure.palette else "L", size)
    arguments = structure.bits, structure.interlaced, NO_TRANSPARENCY
    decoder = Decoder(image, "gif", arguments, (), (0, 0, *size))
    try:
        if not any(decoder.feed(piece) for piece in _pieces(data, structure.start)):
            raise UnreadableImage("the picture is damaged or incomplete")
    finally:
        decoder.close()
    if structure.palette:
        image.putpalette(structure.palette)
    if structure.transparent is not None:
        image.info["transparency"] = structure.transparent
    if structure.box == (0, 0, *structure.canvas):
        return image
    canvas = Image.new("RGBA", structure.canvas)
    canvas.paste(image.convert("RGBA"), (left, top))
    return canvas


def _pieces(data: bytes, at: int) -> Iterator[bytes]:
    """The blocks of the frame's data, as they stand in the file, up to the empty one that ends them."""
    start = at
    for number in range(1, MAX_BLOCKS + 1):
        if at >= len(data) or not data[at] or at + data[at] >= len(data):
            break
        at += 1 + data[at]
        if number % 256 == 0:
            yield data[start:at]
            start = at
    else:
        if at < len(data) and data[at]:
            raise UnreadableImage("the picture is cut into too many pieces")
    yield data[start:at]
