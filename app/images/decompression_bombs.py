"""Decompression bombs: a file that counts how often it is read, so that none costs more than its size
justifies."""

import io

from app.errors import UnreadableImage

MAX_READS = 200_000
"""Most reads of one file. Pillow's parsers are loops in Python that read a piece at a time: a file of
millions of empty pieces would keep one busy for minutes."""


def image_file(data: bytes) -> io.BytesIO:
    """The bytes of an image file as a file object for Pillow, which can be read from only MAX_READS times.

    Fewer bytes than that are not watched: they cannot be cut into more pieces.
    """
    return _CountedFile(data) if len(data) > MAX_READS else io.BytesIO(data)


class _CountedFile(io.BytesIO):
    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._reads_left = MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as BytesIO does.

        Raises:
            UnreadableImage: it has been read from too often.
        """
        self._reads_left -= 1
        if self._reads_left < 0:
            raise UnreadableImage("the picture is cut into too many pieces")
        return super().read(size)
