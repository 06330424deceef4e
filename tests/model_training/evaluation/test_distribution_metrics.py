"""Metrics of distributions, against their definitions and against clouds of known moments."""

import numpy as np
import pytest

from model_training.evaluation.distribution_metrics import (
    Points,
    aggregate_posterior,
    frechet_distance,
    nearest_distances,
    precision_recall,
    smoothness,
    thumbnails,
)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_training.evaluation.distribution_metrics.ROWS", 7)


def normal(count: int, dim: int, seed: int) -> Points:
    return np.random.default_rng(seed).standard_normal((count, dim), dtype=np.float32)


def with_moments(mean: Points, covariance: Points, seed: int) -> Points:
    """Points whose own mean and covariance are exactly these."""
    raw = normal(50, len(mean), seed).astype(np.float64)
    white = (raw - raw.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(raw, rowvar=False))).T
    return np.asarray(white @ np.linalg.cholesky(covariance).T + mean, dtype=np.float32)


def test_the_frechet_distance_is_that_of_the_gaussians() -> None:
    first, second = (
        mixing @ mixing.T + np.eye(4, dtype=np.float32) for mixing in (normal(4, 4, 1), normal(4, 4, 2))
    )
    offset = np.array([1.0, -2.0, 0.5, 0.0], dtype=np.float32)
    some, others = with_moments(0 * offset, first, 3), with_moments(offset, second, 4)
    shared = np.sqrt(np.linalg.eigvals(first @ second).real).sum()  # the eigenvalues of A^1/2 B A^1/2
    expected = (offset**2).sum() + np.trace(first) + np.trace(second) - 2 * shared
    assert frechet_distance(some, others) == pytest.approx(expected, rel=1e-4)
    assert frechet_distance(others, some) == pytest.approx(expected, rel=1e-4)


def test_flat_clouds_have_a_frechet_distance_too() -> None:
    flat = normal(30, 3, 0) * np.array([1, 1, 0], dtype=np.float32)
    assert frechet_distance(flat, flat) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(flat, 3 * flat) > 1


def test_small_sets_make_the_frechet_distance_too_large_by_what_is_documented() -> None:
    dim, few, many = 16, 300, 600
    measured = np.mean(
        [frechet_distance(normal(few, dim, 2 * i), normal(many, dim, 2 * i + 1)) for i in range(20)]
    )
    assert measured == pytest.approx((dim + dim * (dim + 1) / 4) * (1 / few + 1 / many), rel=0.1)


def test_precision_and_recall_count_points_in_balls_of_neighbours() -> None:
    real, generated = normal(40, 2, 0), normal(40, 2, 1) + 0.7

    def covered(points: Points, centres: Points) -> float:
        inside = np.zeros(len(points), dtype=bool)
        for centre in centres:
            radius = np.sort(np.linalg.norm(centres - centre, axis=1))[3]
            inside |= np.linalg.norm(points - centre, axis=1) <= radius
        return float(inside.mean())

    expected = covered(generated, real), covered(real, generated)
    assert precision_recall(real, generated) == pytest.approx(expected)
    assert 0 < expected[1] < 1


def test_a_collapsed_sampler_has_precision_without_recall() -> None:
    real = normal(60, 4, 0)
    collapsed = 0.01 * normal(60, 4, 1)
    precision, recall = precision_recall(real, collapsed)
    assert precision == 1
    assert recall == 0
    assert precision_recall(real, real) == (1, 1)


def test_nearest_distances_are_those_of_all_pairs_at_their_least() -> None:
    points, references = normal(20, 5, 0), normal(30, 5, 1) + 100
    expected = np.linalg.norm(points[:, None] - references, axis=2).min(axis=1)
    np.testing.assert_allclose(nearest_distances(points, references), expected, rtol=1e-4)


def test_the_distance_of_thumbnails_is_in_grey_levels() -> None:
    images = np.random.default_rng(0).integers(0, 200, (2, 9, 14, 3), dtype=np.uint8)
    some, brighter = thumbnails(images), thumbnails(images + 10)
    assert some.shape == (2, 2 * 3 * 3)
    np.testing.assert_allclose(np.linalg.norm(some - brighter, axis=1), 10, rtol=1e-5)
    assert some[0, 0] * np.sqrt(18) == pytest.approx(images[0, :4, :4, 0].mean(), rel=1e-5)


def test_a_straight_steady_path_is_smooth() -> None:
    straight = np.linspace(normal(3, 4, 0), normal(3, 4, 1), 9, axis=1)
    assert smoothness(straight) == pytest.approx((1, 1), rel=1e-5)


def test_detours_lengthen_a_path_jumps_enlarge_its_step_and_paths_that_go_nowhere_do_not_count() -> None:
    angles = np.linspace(0, np.pi, 101)
    arc = np.stack([np.cos(angles), np.sin(angles)], axis=1)[None].astype(np.float32)
    assert smoothness(arc) == pytest.approx((np.pi / 2, 1), rel=1e-3)
    still = np.zeros_like(arc)
    assert smoothness(np.concatenate([still, arc, still])) == pytest.approx(smoothness(arc))
    jump = np.array([[[0.0], [0.0], [3.0], [3.0]]], dtype=np.float32)
    assert smoothness(jump) == pytest.approx((1, 3))


def test_the_aggregate_posterior_has_the_figures_of_its_moments() -> None:
    mean = np.array([0.5, -1.0, 0.0], dtype=np.float32)
    covariance = np.array([[2.0, 0.6, 0], [0.6, 1, 0], [0, 0, 0.25]], dtype=np.float32)
    figures = aggregate_posterior(with_moments(mean, covariance, 5))
    correlation = 0.6 / np.sqrt(2)
    total_correlation = -0.5 * np.log(1 - correlation**2)
    single = sum(0.5 * (v + m * m - 1 - np.log(v)) for v, m in zip((2, 1, 0.25), mean, strict=True))
    assert figures == pytest.approx(
        {
            "largest_mean": 1.0,
            "least_variance": 0.25,
            "median_variance": 1.0,
            "largest_variance": 2.0,
            "total_correlation": total_correlation,
            "kl_to_standard": total_correlation + single,
        },
        rel=1e-4,
    )
