import dataclasses
from pathlib import Path

import numpy as np
import pytest

from app.codes.compressor import REACH, Compressor, Floats, Statistics
from app.codes.entropy_coder import TOTAL, FrequencyTable

RANDOM = np.random.default_rng(0)
DIMENSIONS = 12
SHIPPED = Path(__file__).parents[3] / "models" / "car-vae" / "2" / "compressor.npz"
FROZEN = (
    "e3981a43354c6bedc1a2f92ab666b802c2dbcff7a7763f3d8031de0a328bf8c9a0fae3382ee2f9a1"
    "aab6b591f6f871561f54e40fab322f7d9d44e99a4093ac72a8cb2f5d901eafd9677fb724acc44c69"
)
"""The code of 256 numbers from -1 to 1, equally spaced."""


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


def test_what_comes_back_is_within_half_a_step(compressor: Compressor) -> None:
    for latent in correlated(100):
        back = compressor.decompress(compressor.compress(latent))
        steps = compressor.statistics.coefficients(np.stack([latent, back])) / compressor.step
        limits = np.array([table.limit for table in compressor.tables])
        assert (np.abs(steps[0] - steps[1])[limits > 0] <= 0.5 + 1e-3).all()
        assert back.dtype == np.float32


def test_dimensions_that_do_not_vary_cost_nothing(compressor: Compressor) -> None:
    assert [table.limit for table in compressor.tables[-2:]] == [0, 0]


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
def test_steps_that_cannot_be_used_are_refused(statistics: Statistics, step: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Compressor.fit(statistics, step)


def test_tables_of_another_number_of_dimensions_are_refused() -> None:
    one = Statistics(*(np.ones(1) for _ in dataclasses.fields(Statistics)))
    with pytest.raises(ValueError, match="do not fit"):
        Compressor(one, 1.0, [FrequencyTable([TOTAL])] * 2)


def test_codes_of_the_shipped_compressor_are_the_frozen_ones() -> None:
    compressor = Compressor.load(SHIPPED)
    data = bytes.fromhex(FROZEN)
    latent = np.linspace(-1, 1, 256, dtype=np.float32)
    assert compressor.compress(latent) == data
    restored = compressor.decompress(data)
    np.testing.assert_array_equal(restored, compressor.restore(compressor.quantise(latent[None]))[0])
