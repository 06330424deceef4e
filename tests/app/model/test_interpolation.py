import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from app.model.interpolation import Method, even_lambdas, fades, interpolate
from app.model.latents import standard_draws
from tests.app.model.priors import make_mixture

METHODS: tuple[Method, ...] = ("linear", "spherical")
FLOAT32_MAX = float(np.finfo(np.float32).max)


def angle(first: NDArray[Any], second: NDArray[Any]) -> float:
    return float(np.arccos(first @ second / np.linalg.norm(first) / np.linalg.norm(second)))


def test_linear_frames_are_equally_spaced() -> None:
    waypoints = np.array([[0, 0], [4, 8]], dtype=np.float32)
    frames = interpolate(waypoints, even_lambdas(5), "linear", None)
    np.testing.assert_array_equal(frames, [[0, 0], [1, 2], [2, 4], [3, 6], [4, 8]])


def test_lambdas_may_come_in_any_order() -> None:
    waypoints = np.array([[0.0], [10.0]], dtype=np.float32)
    np.testing.assert_allclose(interpolate(waypoints, [0.9, 0.1, 1.0], "linear", None), [[9], [1], [10]])


def test_waypoints_are_equally_spaced_over_the_whole_path() -> None:
    waypoints = np.array([[0.0], [1.0], [100.0]], dtype=np.float32)
    frames = interpolate(waypoints, even_lambdas(5), "linear", None)
    np.testing.assert_array_equal(frames, [[0], [0.5], [1], [50.5], [100]])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", range(2, 17))
@pytest.mark.parametrize("between", [1, 3])
def test_frames_on_waypoints_equal_them_bit_by_bit(method: Method, count: int, between: int) -> None:
    waypoints = standard_draws(count, 3, 1) * np.float32(1.1)
    frames = interpolate(waypoints, even_lambdas(between * (count - 1) + 1), method, make_mixture())
    assert frames[::between].tobytes() == waypoints.tobytes()


def test_a_spherical_path_follows_the_arc_at_constant_speed() -> None:
    waypoints = np.array([[2, 0], [0, 2]], dtype=np.float32)
    frames = interpolate(waypoints, even_lambdas(4), "spherical", None)
    np.testing.assert_allclose(np.linalg.norm(frames, axis=1), 2, rtol=1e-6)
    for first, second in itertools.pairwise(frames):
        assert angle(first, second) == pytest.approx(np.pi / 6, abs=1e-5)


def test_the_length_changes_linearly_along_an_arc() -> None:
    waypoints = np.array([[1, 0], [-3, 0.001]], dtype=np.float32)  # almost opposite
    frames = interpolate(waypoints, even_lambdas(5), "spherical", None)
    np.testing.assert_allclose(np.linalg.norm(frames, axis=1), [1, 1.5, 2, 2.5, 3], rtol=1e-4)


def test_a_spherical_path_is_an_arc_in_the_whitened_space() -> None:
    prior = make_mixture(scale=20.0)
    frames = interpolate(prior.draw(2, 4), even_lambdas(7), "spherical", prior)
    whitened = prior.whiten(frames)
    lengths = np.linalg.norm(whitened, axis=1)
    np.testing.assert_allclose(np.diff(lengths), np.diff(lengths)[0], atol=1e-4)
    angles = [angle(first, second) for first, second in itertools.pairwise(whitened)]
    np.testing.assert_allclose(angles, angles[0], rtol=1e-3)


@pytest.mark.parametrize(
    "waypoints",
    [
        [[1, 2], [1, 2]],
        [[1, 2], [2, 4]],
        [[1, 2], [-1, -2]],
        [[0, 0], [1, 2]],
        [[0, 0], [0, 0]],
        [[1e-30, 0], [0, 1e30]],
    ],
)
def test_points_without_an_arc_are_joined_without_nan(waypoints: list[list[float]]) -> None:
    points = np.array(waypoints, dtype=np.float32)
    frames = interpolate(points, even_lambdas(9), "spherical", None)
    assert np.isfinite(frames).all()
    if waypoints != [[1e-30, 0], [0, 1e30]]:
        np.testing.assert_allclose(frames, interpolate(points, even_lambdas(9), "linear", None))


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(2, 6), st.just(3)),
        elements=st.floats(-FLOAT32_MAX, FLOAT32_MAX, width=32),
    ),
    st.integers(2, 64),
    st.sampled_from(METHODS),
    st.booleans(),
)
def test_finite_waypoints_give_finite_frames(
    waypoints: NDArray[np.float32], steps: int, method: Method, fitted: bool
) -> None:
    frames = interpolate(waypoints, even_lambdas(steps), method, make_mixture() if fitted else None)
    assert frames.shape == (steps, 3)
    assert frames.dtype == np.float32
    assert np.isfinite(frames).all()
    assert (frames[0] == waypoints[0]).all()
    assert (frames[-1] == waypoints[-1]).all()


def test_a_waypoint_fades_out_to_the_middle_and_the_next_one_in_from_there() -> None:
    found = fades(3, [0, 0.125, 0.25, 0.375, 0.5, 0.625, 1])
    assert found == [(0, 1.0), (0, 0.5), (0, 0.0), (1, 0.5), (1, 1.0), (1, 0.5), (2, 1.0)]


def test_a_frame_that_is_a_waypoint_but_for_rounding_shows_all_of_it() -> None:
    lambdas = even_lambdas(64)
    assert fades(2, lambdas)[0] == (0, 1.0)
    assert fades(2, lambdas)[63] == (1, 1.0)
    assert fades(4, [1 / 3 + 1e-12])[0] == (1, 1.0)
