"""Fit of codes: from images to tables whose codes keep what the images have in common."""

from pathlib import Path

import numpy as np
import pytest

from app.codes.codec import CodeCodec
from app.codes.tables import CodeTables
from app.images.arrays import ImageArray
from model_training.compression.fit import Refined, fit_tables, inside, refined_images
from model_training.compression.rate_distortion import Rates, code_curve
from tests.model_training.compression.conftest import Blocks

TAG = 0x21


@pytest.fixture(scope="module")
def tables(cars: ImageArray) -> CodeTables:
    return fit_tables(Blocks(), refined_images(Blocks(), cars))


def test_every_other_image_is_mirrored_and_all_are_kept(cars: ImageArray) -> None:
    images, latents, shapes = refined_images(Blocks(), cars[:6])
    assert len(images) == len(latents) == len(shapes) == 6
    order = np.random.default_rng(0).permutation(6)
    np.testing.assert_array_equal(images[0], cars[order[0]])
    np.testing.assert_array_equal(images[1], cars[order[1], :, ::-1])
    np.testing.assert_array_equal(latents, Blocks().encode(images)[0])


def test_settings_go_from_coarse_to_fine(tables: CodeTables) -> None:
    assert (np.diff(tables.setting_bytes) > 0).all()
    assert (tables.settings[:, 1] >= 0).any()
    assert CodeTables.read(tables.save()).save() == tables.save()


def test_codes_of_unseen_images_grow_better_with_their_bytes(
    tables: CodeTables, other_cars: ImageArray, tmp_path: Path
) -> None:
    budgets = [20, 40, 80, 160, 320]
    curve = code_curve("blocks", CodeCodec(tables, TAG), None, Blocks(), other_cars[:12], budgets)
    for budget, point in zip(budgets, curve.points, strict=True):
        assert point.bytes <= budget
    assert [point.psnr for point in curve.points] == sorted(point.psnr for point in curve.points)
    assert curve.points[-1].psnr > curve.points[0].psnr + 4
    rates = Rates(12, [curve])
    rates.save(tmp_path / "rates.json")
    assert Rates.load(tmp_path / "rates.json") == rates


def test_the_border_is_outside() -> None:
    masks = inside(np.array([7, 15, 16 + 10]), 24, 16)
    assert masks.sum(axis=(1, 2, 3)).tolist() == [24 * 8, 24 * 16, 11 * 16]


def test_too_few_images_are_refused(cars: ImageArray) -> None:
    few = cars[:20]
    with pytest.raises(ValueError, match="20 latents are too few for statistics in 72 dimensions"):
        fit_tables(Blocks(), Refined(few, Blocks().encode(few)[0], np.full(20, 15)))
