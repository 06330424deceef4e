"""Second layer: whole steps that come back, by contexts that writer and reader know alike."""

import numpy as np
import pytest

from app.codes.range_coder import RangeDecoder, encode
from app.codes.residual_layer import LARGEST, ResidualLayer, ResidualValues
from app.codes.tables import Floats
from tests.app.codes.tiny_codes import BLOCKS, COMPONENTS, HEIGHT, WIDTH, tiny_tables


@pytest.fixture(scope="module")
def layer() -> ResidualLayer:
    return ResidualLayer(tiny_tables())


def grey_noise(seed: int, scale: float) -> Floats:
    light = np.random.RandomState(seed).standard_normal((HEIGHT, WIDTH, 1)) * scale
    return np.asarray(light.repeat(3, axis=2), np.float32)


def read(data: bytes, layer: ResidualLayer, step: int) -> ResidualValues:
    decoder = RangeDecoder(data)
    values = layer.read(decoder, step)
    decoder.finish()
    return values


@pytest.mark.parametrize("step", [0, 20, 40, 60, 79])
@pytest.mark.parametrize("scale", [2, 30, 120])
def test_what_is_written_is_read(layer: ResidualLayer, step: int, scale: float) -> None:
    values, bits = layer.quantise(layer.components(grey_noise(step, scale)), step)
    data = encode(layer.intervals(values))
    np.testing.assert_array_equal(read(data, layer, step).values, values.values)
    assert len(data) <= bits / 8 + 1


def test_any_values_are_read(layer: ResidualLayer) -> None:
    random = np.random.RandomState(3)
    coded = layer.coded(79)
    for most in (1, 3, 5, LARGEST):
        values = random.randint(-most, most + 1, (COMPONENTS, BLOCKS)) * coded
        data = encode(layer.intervals(ResidualValues(79, values)))
        np.testing.assert_array_equal(read(data, layer, 79).values, values)


def test_fine_steps_bring_the_residual_back(layer: ResidualLayer) -> None:
    residual = grey_noise(0, 20)
    errors, sizes = [], []
    for step in (20, 40, 60, 79):
        values, bits = layer.quantise(layer.components(residual), step)
        errors.append(float(np.abs(layer.restore(values) - residual).mean()))
        sizes.append(bits)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 4
    assert sizes == sorted(sizes)


def test_the_sum_of_a_magnitude_counts_its_neighbours(layer: ResidualLayer) -> None:
    magnitudes = np.zeros((COMPONENTS, BLOCKS), np.float32)
    magnitudes[5, 0] = 2  # blocks lie in two rows of three
    np.testing.assert_array_equal(layer.around(magnitudes)[5], [0, 2, 0, 2, 2, 0])
    beside, diagonal = layer.before(magnitudes)
    np.testing.assert_array_equal(beside[5], [0, 2, 0, 2, 0, 0])
    np.testing.assert_array_equal(diagonal[5], [0, 0, 0, 0, 2, 0])
