"""A file that counts how often it is read."""

import pytest

from app.errors import UnreadableImage
from app.images.decompression_bombs import MAX_READS, image_file


def test_a_file_can_be_read_so_often_and_no_more() -> None:
    file = image_file(bytes(MAX_READS + 1))
    for _ in range(MAX_READS):
        file.read(1)
    with pytest.raises(UnreadableImage, match="too many pieces"):
        file.read(1)


def test_a_file_too_short_for_so_many_pieces_is_not_watched() -> None:
    file = image_file(bytes(MAX_READS))
    assert len(file.read()) == MAX_READS
    assert type(file).__name__ == "BytesIO"
