"""Attributes: what is measured is what was painted."""

import numpy as np
import pytest

from app.images.arrays import ImageArray
from app.images.letterbox import fill
from model_training.atlas.attributes import ATTRIBUTES, MIRRORED, Doubles, edges, facing, measure, oklab
from model_training.compression.shapes import find_shapes
from model_training.data.synthetic import draw_cars

WIDTH, HEIGHT = 48, 32
WHOLE = np.array([HEIGHT - 1])


def measured(image: ImageArray) -> dict[str, float]:
    return dict(zip(ATTRIBUTES, measure(image[None], WHOLE)[0].tolist(), strict=True))


def grey(level: int = 128) -> ImageArray:
    return np.full((HEIGHT, WIDTH, 3), level, np.uint8)


def test_oklab_of_known_colours() -> None:
    # Values of Ottosson (2020), "A perceptual color space for image processing".
    colours = np.array([[[255, 255, 255], [255, 0, 0], [0, 0, 255], [0, 0, 0]]], np.uint8)
    known = [[1.0, 0.0, 0.0], [0.62796, 0.22486, 0.12585], [0.45201, -0.03246, -0.31153], [0.0, 0.0, 0.0]]
    np.testing.assert_allclose(oklab(colours)[0], known, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "rows", "columns", "colour", "rises"),
    [
        ("paint_light", slice(15, 23), slice(12, 36), (250, 250, 250), True),
        ("paint_red", slice(15, 23), slice(12, 36), (230, 60, 60), True),
        ("paint_yellow", slice(15, 23), slice(12, 36), (60, 60, 230), False),
        ("background_light", slice(0, 4), slice(0, 48), (250, 250, 250), True),
        ("ground_light", slice(29, 32), slice(0, 48), (10, 10, 10), False),
        ("light_side", slice(10, 24), slice(27, 43), (250, 250, 250), True),
        ("light_side", slice(10, 24), slice(5, 21), (250, 250, 250), False),
        ("windows_light", slice(6, 12), slice(14, 34), (250, 250, 250), True),
        ("ground_side", slice(28, 32), slice(29, 48), (250, 250, 250), True),
        ("surroundings_yellow", slice(0, 4), slice(0, 48), (200, 180, 40), True),
    ],
)
def test_an_attribute_is_that_of_its_place(
    name: str, rows: slice, columns: slice, colour: tuple[int, int, int], rises: bool
) -> None:
    image = grey()
    image[rows, columns] = colour
    change = measured(image)[name] - measured(grey())[name]
    assert change > 0.05 if rises else change < -0.05


def test_borders_are_no_part_of_what_is_measured() -> None:
    inner = draw_cars(1, WIDTH, 20, seed=3)[0]
    fitted = fill(inner, WIDTH, HEIGHT)
    shapes = find_shapes(fitted[None])
    found = dict(zip(ATTRIBUTES, measure(fitted[None], shapes)[0].tolist(), strict=True))
    assert found["height"] == pytest.approx(np.log(20 / WIDTH))
    alone = dict(zip(ATTRIBUTES, measure(inner[None], np.array([19]))[0].tolist(), strict=True))
    for name in ATTRIBUTES:
        if name != "facing":
            assert found[name] == pytest.approx(alone[name]), name


def wedges(count: int, seed: int) -> tuple[ImageArray, Doubles]:
    """Dark shapes with a bonnet at one end, and 1 where that is the left one, else -1."""
    random = np.random.default_rng(seed)
    images = np.stack([grey(200) for _ in range(count)])
    left = np.where(random.random(count) < 0.5, 1.0, -1.0)
    for image, side in zip(images, left, strict=True):
        image[14 : 27 + random.integers(3), 3:45] = random.integers(20, 90, 3)
        image[4 + random.integers(3) : 15, 27:44] = random.integers(20, 90, 3)
        if side < 0:
            image[:] = image[:, ::-1].copy()
    return images, left


def test_what_faces_left_is_told_from_what_faces_right() -> None:
    images, left = wedges(40, 0)
    np.testing.assert_array_equal(np.sign(facing(images)), left)


def test_a_mirrored_image_has_the_opposite_side_and_the_same_rest() -> None:
    images, _ = wedges(12, 1)
    shapes = np.full(12, HEIGHT - 1)
    own = measure(images, shapes)
    mirrored = measure(np.ascontiguousarray(images[:, :, ::-1]), shapes)
    for column, name in enumerate(ATTRIBUTES):
        sign = -1 if name in MIRRORED else 1
        np.testing.assert_allclose(mirrored[:, column], sign * own[:, column], atol=0.02, err_msg=name)


def test_edges_do_not_depend_on_contrast() -> None:
    (image,) = draw_cars(1, WIDTH, HEIGHT, seed=2)
    flat = (image // 2 + 60).astype(np.uint8)
    near = np.abs(edges(image[None]) - edges(flat[None])).mean()
    other = np.abs(edges(image[None]) - edges(draw_cars(1, WIDTH, HEIGHT, seed=9))).mean()
    assert near < 0.1 * other
