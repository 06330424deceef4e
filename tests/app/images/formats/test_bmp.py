"""BMP: size and damage."""

import pytest

from app.errors import ImageTooLarge
from app.images.formats.bmp import open_bmp
from tests.images import file_of, photograph

LIMIT = 10**7


def test_the_size_is_checked_before_anything_is_decoded() -> None:
    data = file_of(photograph(), "BMP")
    assert open_bmp(data, LIMIT, 5400).size == (90, 60)
    with pytest.raises(ImageTooLarge):
        open_bmp(data, LIMIT, 5399)


def test_a_short_file_does_not_load() -> None:
    data = file_of(photograph(), "BMP")
    with pytest.raises(OSError, match="truncated"):
        open_bmp(data[:-3], LIMIT, LIMIT).load()
