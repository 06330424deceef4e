import dataclasses
from pathlib import Path

import numpy as np
import pytest

from app.codes.compressor import REACH, TOTAL, Compressor, Statistics
from app.images.arrays import ImageArray
from model_training.backends.base import Floats
from model_training.compression.fit import training_statistics

RANDOM = np.random.default_rng(0)
DIMENSIONS = 12


def correlated(count: int) -> Floats:
    """Latents of which the last two numbers hardly vary."""
    mixing = np.random.default_rng(1).standard_normal((DIMENSIONS, DIMENSIONS)) * np.linspace(
        3, 0.5, DIMENSIONS
    )
    mixing[-2:] *= 1e-4
    return (RANDOM.standard_normal((count, DIMENSIONS)) @ mixing.T + 5).astype(np.float32)


@pytest.fixture(scope="module")
def statistics() -> Statistics:
    latents = correlated(5000)
    return Statistics.fit(latents, np.full_like(latents, np.log(0.25)))


@pytest.fixture(scope="module")
def compressor(statistics: Statistics) -> Compressor:
    return Compressor.fit(statistics, 0.7)


def test_coefficients_are_uncorrelated_and_sorted(statistics: Statistics) -> None:
    coefficients = statistics.coefficients(correlated(5000))
    deviations = coefficients.std(axis=0)
    np.testing.assert_allclose(deviations, statistics.deviations, rtol=0.1)
    assert (np.diff(statistics.deviations) <= 0).all()
    varied = coefficients[:, :-2]
    np.testing.assert_allclose(np.corrcoef(varied.T), np.eye(DIMENSIONS - 2), atol=0.1)


def test_coefficients_become_the_latents_again(statistics: Statistics) -> None:
    latents = correlated(10)
    np.testing.assert_allclose(statistics.latents(statistics.coefficients(latents)), latents, rtol=1e-5)


def test_numbers_of_wide_posteriors_are_kept_less_exactly() -> None:
    latents = RANDOM.standard_normal((5000, 2)).astype(np.float32)
    log_variance = np.broadcast_to(np.log(np.array([0.01, 0.09], dtype=np.float32)), latents.shape)
    compressor = Compressor.fit(Statistics.fit(latents, log_variance), 1.0)
    error = compressor.restore(compressor.quantise(latents)) - latents
    np.testing.assert_allclose(error.std(axis=0), np.array([0.1, 0.3]) / np.sqrt(12), rtol=0.05)


def test_mirror_images_count_too() -> None:
    class LeftEdge:
        width, height, latent_dim = 4, 2, 1

        def encode(self, pixels: ImageArray) -> tuple[Floats, Floats]:
            mean = pixels[:, 0, :1, 0].astype(np.float32)
            return mean, np.zeros_like(mean)

        def decode(self, latents: Floats) -> ImageArray:
            raise AssertionError(latents)

    pixels = np.zeros((9, 2, 4, 3), dtype=np.uint8)
    pixels[:, :, 0] = 200
    statistics = training_statistics(LeftEdge(), pixels)
    assert statistics.mean == pytest.approx([100])
    assert statistics.deviations == pytest.approx([100])


def test_what_comes_back_is_within_half_a_step(compressor: Compressor) -> None:
    for latent in correlated(100):
        back = compressor.decompress(compressor.compress(latent))
        steps = compressor.statistics.coefficients(np.stack([latent, back])) / compressor.step
        limits = np.array([len(table) // 2 for table in compressor.frequencies])
        assert (np.abs(steps[0] - steps[1])[limits > 0] <= 0.5 + 1e-3).all()
        assert back.dtype == np.float32


@pytest.mark.parametrize("step", [0.05, 0.7, 5.0, 1000.0])
def test_integers_are_coded_exactly_and_in_the_bytes_they_need(statistics: Statistics, step: float) -> None:
    compressor = Compressor.fit(statistics, step)
    limits = np.array([len(table) // 2 for table in compressor.frequencies])
    extremes = [-limits, limits, 0 * limits, limits * (-1) ** np.arange(DIMENSIONS)]
    uniform = [RANDOM.integers(-limits, limits + 1) for _ in range(200)]
    for values in [*extremes, *uniform, *compressor.quantise(correlated(200))]:
        data = compressor.pack(values)
        assert (compressor.unpack(data) == values).all()
        likelihoods = [
            table[value + limit] / TOTAL
            for value, limit, table in zip(values, limits, compressor.frequencies, strict=True)
        ]
        assert len(data) <= -np.log2(likelihoods).sum() / 8 + 1


def test_bytes_by_hand() -> None:
    two = Statistics(np.zeros(2), np.ones(2), np.eye(2), np.ones(2))
    quarter = TOTAL // 4
    compressor = Compressor(two, 1.0, [[quarter, 2 * quarter, quarter]] * 2)
    for values, data in (
        ((0, 0), b"\x60"),  # 0.375 to 0.625
        ((-1, -1), b""),  # 0 to 0.0625
        ((1, 1), b"\xf0"),  # 0.9375 to 1
    ):
        assert compressor.pack(np.array(values)) == data
        assert tuple(compressor.unpack(data)) == values


def test_dimensions_that_do_not_vary_cost_nothing(compressor: Compressor) -> None:
    assert [len(table) for table in compressor.frequencies[-2:]] == [1, 1]


def test_latents_far_out_are_clipped(compressor: Compressor) -> None:
    far = np.finfo(np.float32).max * np.ones(DIMENSIONS, dtype=np.float32)
    for latent in (far, -far):
        back = compressor.decompress(compressor.compress(latent))
        coefficients = np.abs(compressor.statistics.coefficients(back[None])[0])
        reach = REACH * compressor.statistics.deviations + compressor.step / 2
        assert (coefficients <= reach * (1 + 1e-5)).all()
        assert coefficients[0] > reach[0] - compressor.step


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_latents_that_are_not_finite_are_refused(compressor: Compressor, value: float) -> None:
    with pytest.raises(ValueError, match="not all numbers"):
        compressor.compress(np.full(DIMENSIONS, value, dtype=np.float32))


def test_damaged_bytes_are_refused_or_give_some_latent(compressor: Compressor) -> None:
    data = compressor.compress(correlated(1)[0])
    flipped = [
        (int.from_bytes(data, "big") ^ 1 << bit).to_bytes(len(data), "big") for bit in range(8 * len(data))
    ]
    shortened = [data[:length] for length in range(len(data))]
    noise = [RANDOM.bytes(length) for length in range(40)]
    refused = 0
    for damaged in flipped + shortened + noise:
        try:
            latent = compressor.decompress(damaged)
        except ValueError:
            refused += 1
        else:
            assert np.isfinite(latent).all()
            assert compressor.compress(latent) == damaged
    assert 0 < refused < len(flipped + shortened + noise)


@pytest.mark.parametrize("more", [b"\0", b"x", bytes(10_000_000)])
def test_bytes_behind_the_end_are_refused(compressor: Compressor, more: bytes) -> None:
    with pytest.raises(ValueError, match="damaged"):
        compressor.decompress(compressor.compress(correlated(1)[0]) + more)


def test_a_saved_compressor_reads_the_same(compressor: Compressor, tmp_path: Path) -> None:
    path = tmp_path / "compressor.npz"
    compressor.save(path)
    loaded = Compressor.load(path)
    for latent in correlated(20):
        data = compressor.compress(latent)
        assert loaded.compress(latent) == data
        assert (loaded.decompress(data) == compressor.decompress(data)).all()


@pytest.mark.parametrize("content", [None, b"", b"no archive"])
def test_a_file_that_is_no_compressor_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "compressor.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"no compressor in .*compressor\.npz"):
        Compressor.load(path)


def test_too_few_latents_are_refused() -> None:
    latents = np.zeros((3, 3), dtype=np.float32)
    with pytest.raises(ValueError, match="3 latents are too few"):
        Statistics.fit(latents, latents)


@pytest.mark.parametrize(
    ("step", "message"),
    [(1e-4, "too fine"), (0.0, "must be positive"), (-1.0, "must be positive"), (np.nan, "must be positive")],
)
def test_steps_that_cannot_be_used(statistics: Statistics, step: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Compressor.fit(statistics, step)


@pytest.mark.parametrize("table", [[TOTAL - 1], [TOTAL // 2] * 2, [0, TOTAL, 0], [-1, TOTAL + 2, -1]])
def test_frequencies_that_cannot_be_used(table: list[int]) -> None:
    one = Statistics(*(np.ones(1) for _ in dataclasses.fields(Statistics)))
    with pytest.raises(ValueError, match="damaged"):
        Compressor(one, 1.0, [table])
    with pytest.raises(ValueError, match="do not fit"):
        Compressor(one, 1.0, [[TOTAL]] * 2)
