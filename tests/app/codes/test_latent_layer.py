"""First layer: whole steps that come back, finer ones nearer and in more bits."""

import numpy as np
import pytest

from app.codes.latent_layer import LatentLayer
from app.codes.range_coder import RangeDecoder, encode
from tests.app.codes.tiny_codes import tiny_car, tiny_tables


@pytest.fixture(scope="module")
def layer() -> LatentLayer:
    return LatentLayer(tiny_tables())


@pytest.mark.parametrize("step", [0, 16, 40, 64])
def test_what_is_written_is_read(layer: LatentLayer, step: int) -> None:
    for seed in range(10):
        values, bits = layer.quantise(layer.coefficients(tiny_car(seed)[1]), step)
        data = encode(layer.intervals(values))
        decoder = RangeDecoder(data)
        read = layer.read(decoder, step)
        decoder.finish()
        np.testing.assert_array_equal(read.values, values.values)
        assert abs(len(data) - bits / 8) <= 1


def test_finer_steps_come_nearer_in_more_bits(layer: LatentLayer) -> None:
    latent = tiny_car(1)[1]
    errors, sizes = [], []
    for step in (0, 24, 48, 64):
        values, bits = layer.quantise(layer.coefficients(latent), step)
        errors.append(float(np.abs(layer.restore(values) - latent)[:5].max()))
        sizes.append(bits)
    assert errors[0] > 2 * errors[2] > 0
    assert errors[-1] <= 4 * 2**-4
    assert sizes == sorted(sizes)


def test_a_value_that_is_not_coded_is_the_mean(layer: LatentLayer) -> None:
    values, _ = layer.quantise(np.full(8, 50, np.float32), 0)
    assert values.values[6:].tolist() == [0, 0]
    np.testing.assert_allclose(layer.restore(values)[6:], 0.5)


def test_values_out_of_reach_are_clipped(layer: LatentLayer) -> None:
    values, _ = layer.quantise(np.array([1e10, -1e10, 0, 0, 0, 0, 0, 0], np.float32), 64)
    assert values.values[0] >= 19
    assert values.values[1] <= -19
