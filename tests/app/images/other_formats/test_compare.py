import io
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from app.images.arrays import ImageArray
from app.images.letterbox import fill
from app.images.other_formats import blur_hash, thumb_hash
from app.images.other_formats.compare import FormatName, in_other_formats
from app.images.quality import psnr
from model_training.data.synthetic import draw_cars

NAMES = get_args(FormatName)
BUDGETS = (16, 24, 64, 94, 255, 400)
WHOLE = (0, 0, 96, 64)


@pytest.fixture(scope="module")
def car() -> ImageArray:
    image: ImageArray = draw_cars(1, 96, 64, 3)[0]
    return image


def shown(name: str, data: bytes, width: int, height: int) -> ImageArray:
    """What any reader of a format sees, at a size."""
    if name == "blurhash":
        return blur_hash.decode(data.decode(), width, height)
    if name == "thumbhash":
        return thumb_hash.decode(data, width, height)
    image = Image.open(io.BytesIO(data))
    assert image.format == name.upper()
    if image.size == (width, height):
        return np.asarray(image.convert("RGB"))
    return np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("name", NAMES)
def test_each_format_is_at_its_best_under_each_budget(name: FormatName, car: ImageArray) -> None:
    (found,) = in_other_formats(car, WHOLE, BUDGETS, [name])
    assert found.name == name
    figures = []
    for budget, rendition in zip(BUDGETS, found.renditions, strict=True):
        assert (rendition is None) == (budget < found.smallest)
        if rendition is not None:
            assert found.smallest <= len(rendition.data) <= budget
            assert (rendition.image == shown(name, rendition.data, 96, 64)).all()
            assert rendition.psnr == psnr(car[None], rendition.image[None])[0]
            figures.append(rendition.psnr)
    assert figures == sorted(figures), "more bytes are never worse"
    assert figures[-1] > 14


def test_where_a_format_cannot_go(car: ImageArray) -> None:
    found = in_other_formats(car, WHOLE, [16, 20, 40, 250], NAMES)
    empty = {each.name: [rendition is None for rendition in each.renditions] for each in found}
    assert empty == {
        "webp": [True, True, True, False],
        "avif": [True] * 4,
        "jpeg": [True] * 4,
        "blurhash": [False] * 4,
        "thumbhash": [True, True, False, False],
    }
    smallest = {each.name: each.smallest for each in found}
    assert smallest["blurhash"] == 6
    assert smallest["thumbhash"] == 21
    assert 40 < smallest["webp"] < 94
    assert 250 < smallest["jpeg"] < 400
    assert 250 < smallest["avif"] < 400


@pytest.mark.parametrize("box", [(24, 0, 72, 64), (0, 31, 96, 33), (48, 0, 49, 64)])
def test_borders_are_not_coded_but_made_again(box: tuple[int, int, int, int], car: ImageArray) -> None:
    left, top, right, bottom = box
    image = fill(car[top:bottom, left:right], 96, 64)
    for found in in_other_formats(image, box, [400], NAMES):
        (rendition,) = found.renditions
        if rendition is None:
            assert found.name == "avif"
            assert found.smallest > 400
            continue
        inside = shown(found.name, rendition.data, right - left, bottom - top)
        assert (rendition.image == fill(inside, 96, 64)).all()
        assert rendition.psnr == psnr(image[None], rendition.image[None])[0]
