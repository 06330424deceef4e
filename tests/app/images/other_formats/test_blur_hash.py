import numpy as np
import pytest

from app.images.other_formats import blur_hash
from tests.app.images.other_formats.pictures import slopes

BEACH = [
    [(135, 164, 177), (161, 173, 177), (181, 180, 171), (160, 172, 174)],
    [(124, 154, 169), (148, 148, 154), (164, 145, 134), (146, 152, 155)],
    [(124, 144, 154), (144, 134, 132), (163, 130, 104), (148, 140, 134)],
]
"""What the package blurhash 1.1.5, a port of the first implementation, makes of its page's first example."""


def test_what_others_wrote_is_read_as_they_read_it() -> None:
    assert blur_hash.decode("LEHV6nWB2yk8pyo0adR*.7kCMdnj", 4, 3).tolist() == np.array(BEACH).tolist()


@pytest.mark.parametrize(
    ("size", "across", "down", "code"),
    [
        ((48, 32), 1, 1, "00DRvf"),
        ((48, 32), 4, 3, "LjDRvf0z=dJ8mwXejJbFg4e-flf6"),
        ((48, 32), 3, 4, "TjDRvf0z=dmwXejJg4e-fln-W,jb"),
        ((20, 40), 4, 3, "LeC$4T0z,@N]mxc5jJa|g4e-flfQ"),
        ((20, 40), 1, 5, "aGC$4TqYgQr|fn"),
    ],
)
def test_what_others_write_is_written(size: tuple[int, int], across: int, down: int, code: str) -> None:
    """By the same package."""
    assert blur_hash.encode(blur_hash.light(slopes(*size)), across, down) == code


def test_a_flat_picture_comes_back() -> None:
    image = np.full((20, 30, 3), (200, 120, 40), np.uint8)
    code = blur_hash.encode(blur_hash.light(image), 1, 1)
    assert len(code) == blur_hash.hash_length(1, 1) == 6
    assert np.abs(blur_hash.decode(code, 30, 20).astype(int) - image).max() <= 1


def test_components_are_as_many_as_fit() -> None:
    assert list(blur_hash.components(5)) == []
    assert list(blur_hash.components(6)) == [(1, 1)]
    assert list(blur_hash.components(12)) == [(1, 4), (2, 2), (4, 1)]
    assert list(blur_hash.components(400)) == [(9, 9)]
    assert all(blur_hash.hash_length(*size) <= 94 for size in blur_hash.components(94))


@pytest.mark.parametrize(
    "code", ["", "L", "LEHV6nWB2yk8pyo0adR*.7kCMdn", "LEHV6nWB2yk8pyo0adR*.7kCMdn~~", "\N{EURO SIGN}" * 6]
)
def test_what_is_no_hash_is_refused(code: str) -> None:
    with pytest.raises(ValueError, match=r"characters|not found"):
        blur_hash.decode(code, 4, 3)
