import io
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from app.errors import ModelFolderError
from app.model.interpolation import Method, even_lambdas, interpolate
from app.model.latents import MAX_SEED, new_seed, posterior_draws, standard_draws
from app.model.prior import Prior, read_prior
from app.model.prior_networks import Details, Flow

METHODS: tuple[Method, ...] = ("linear", "spherical")
FLOAT32_MAX = float(np.finfo(np.float32).max)


def make_prior(dim: int = 3, scale: float = 1.0) -> Prior:
    random = np.random.RandomState(5)
    factors = np.tril(random.standard_normal((2, dim, dim)) * 0.3) + np.eye(dim)
    return Prior([3.0, 1.0], random.standard_normal((2, dim)) * scale, factors * scale)


def angle(first: NDArray[Any], second: NDArray[Any]) -> float:
    return float(np.arccos(first @ second / np.linalg.norm(first) / np.linalg.norm(second)))


def test_standard_draws_are_the_frozen_ones() -> None:
    expected = np.array([[-0.38957822, 0.70834404], [-1.8051144, -1.5245351]], dtype=np.float32)
    np.testing.assert_array_equal(standard_draws(2, 2, 7), expected)


def test_prior_draws_are_the_frozen_ones() -> None:
    prior = Prior([0.5, 0.5], [[10.0, 0.0], [-10.0, 0.0]], [np.eye(2), np.eye(2)])
    noise = standard_draws(4, 2, 7)
    draws = prior.draw(4, 7)
    np.testing.assert_allclose(draws[:, 1], noise[:, 1])
    np.testing.assert_allclose(draws[:, 0] - noise[:, 0], [-10, 10, -10, 10], atol=1e-5)


def test_temperature_scales_deviations() -> None:
    np.testing.assert_allclose(standard_draws(3, 4, 1, 0.5), standard_draws(3, 4, 1) / 2)
    assert not standard_draws(3, 4, 1, 0.0).any()
    prior = make_prior()
    cold, warm, hot = (prior.draw(20, 1, temperature) for temperature in (0.0, 1.0, 2.0))
    np.testing.assert_allclose(hot - cold, 2 * (warm - cold), atol=1e-5)
    assert {tuple(row) for row in cold} == {tuple(row) for row in prior.means.astype(np.float32)}


@given(
    st.integers(1, 64), st.integers(1, 64), st.integers(0, MAX_SEED), st.floats(0, 2, allow_subnormal=False)
)
def test_the_first_rows_do_not_depend_on_the_count(
    few: int, many: int, seed: int, temperature: float
) -> None:
    few, many = sorted((few, many))
    prior = make_prior()
    np.testing.assert_array_equal(
        prior.draw(few, seed, temperature), prior.draw(many, seed, temperature)[:few]
    )
    np.testing.assert_array_equal(standard_draws(few, 3, seed), standard_draws(many, 3, seed)[:few])


def test_draws_have_the_moments_of_the_mixture() -> None:
    prior = make_prior()
    draws = prior.draw(20_000, 3).astype(np.float64)
    share = 0.75
    np.testing.assert_allclose(draws.mean(axis=0), share * prior.means[0] + 0.25 * prior.means[1], atol=0.05)
    offset = prior.means[0] - prior.means[1]
    within = sum(w * f @ f.T for w, f in zip((0.75, 0.25), prior.cholesky, strict=True))
    covariance = within + 0.75 * 0.25 * np.outer(offset, offset)
    np.testing.assert_allclose(np.cov(draws.T), covariance, atol=0.1)


def test_whitened_draws_have_mean_0_and_covariance_1() -> None:
    prior = make_prior(scale=50.0)
    whitened = prior.whiten(prior.draw(20_000, 3))
    np.testing.assert_allclose(whitened.mean(axis=0), np.zeros(3), atol=0.05)
    np.testing.assert_allclose(np.cov(whitened.T), np.eye(3), atol=0.05)


def test_unwhiten_is_the_inverse_of_whiten() -> None:
    prior = make_prior(dim=8)
    latents = standard_draws(5, 8, 1) * 10
    np.testing.assert_allclose(prior.unwhiten(prior.whiten(latents)), latents, rtol=1e-9, atol=1e-9)


def test_posterior_draws_follow_mean_and_std() -> None:
    mean = np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32)
    std = np.array([[0.0, 1.0], [2.0, 0.0]], dtype=np.float32)
    draws = posterior_draws(mean, std, 9)
    assert draws.dtype == np.float32
    assert (draws[0, 0], draws[1, 1]) == (1.0, 4.0)
    np.testing.assert_allclose(
        (draws - mean)[std > 0] / std[std > 0], standard_draws(2, 2, 9)[std > 0], rtol=1e-5
    )


def test_seeds_matter_and_repeat() -> None:
    assert (standard_draws(1, 4, 1) == standard_draws(1, 4, 1)).all()
    assert (standard_draws(1, 4, 1) != standard_draws(1, 4, 2)).all()
    assert (standard_draws(1, 4, 0) != standard_draws(1, 4, MAX_SEED)).all()


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match="a seed must be between 0 and"):
        standard_draws(1, 1, seed)


def test_new_seeds_are_short_and_differ() -> None:
    seeds = {new_seed() for _ in range(20)}
    assert len(seeds) > 1
    assert all(0 <= seed < 2**32 for seed in seeds)


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
    frames = interpolate(waypoints, even_lambdas(between * (count - 1) + 1), method, make_prior())
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
    prior = make_prior(scale=20.0)
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
    frames = interpolate(waypoints, even_lambdas(steps), method, make_prior() if fitted else None)
    assert frames.shape == (steps, 3)
    assert frames.dtype == np.float32
    assert np.isfinite(frames).all()
    assert (frames[0] == waypoints[0]).all()
    assert (frames[-1] == waypoints[-1]).all()


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def test_principal_directions_are_where_draws_vary_most() -> None:
    prior = make_prior(6)
    vectors, deviations = prior.principal_directions(3)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(3), atol=1e-12)
    assert (np.diff(deviations) < 0).all()
    draws = prior.draw(20_000, seed=3).astype(np.float64)
    np.testing.assert_allclose((draws @ vectors.T).std(axis=0), deviations, rtol=0.03)
    variances = np.linalg.eigvalsh(np.cov(draws.T))[::-1]
    np.testing.assert_allclose(np.sqrt(variances[:3]), deviations, rtol=0.03)


def test_principal_directions_have_one_sign_and_no_more_than_there_are() -> None:
    vectors, deviations = Prior([1.0], [[0.0, 0.0]], [np.diag([1.0, 5.0])]).principal_directions(8)
    np.testing.assert_allclose(vectors, [[0, 1], [1, 0]], atol=1e-12)
    np.testing.assert_allclose(deviations, [5, 1])


def make_flow(dim: int = 2, width: int = 6, scale: float = 0.3) -> dict[str, np.ndarray[Any, Any]]:
    random = np.random.default_rng(1)
    shapes = {
        "entry": (width, dim),
        "entry_bias": (width,),
        "hidden": (2, width, width),
        "hidden_bias": (2, width),
        "exit": (dim, width),
        "exit_bias": (dim,),
    }
    return {name: random.standard_normal(shape) * scale for name, shape in shapes.items()}


def flowing_prior(dim: int = 3) -> Prior:
    gaussian = make_prior(dim)
    return Prior([1.0], gaussian.means[:1], gaussian.cholesky[:1], Flow(make_flow()))


def make_details(dim: int = 5, leading: int = 2, scale: float = 0.3) -> dict[str, np.ndarray[Any, Any]]:
    random = np.random.default_rng(2)
    shapes = {
        "picture": (dim, 2, 3, 2),
        "entry": (3, 3, 4, 6),
        "entry_bias": (2, 3, 6),
        "first": (2, 3, 3, 6, 6),
        "first_bias": (2, 6),
        "second": (2, 3, 3, 6, 6),
        "second_bias": (2, 6),
        "exit": (3, 3, 6, 2),
        "back": (2, 3, 2, dim - leading),
        "keep": (dim - leading,),
    }
    return {name: random.standard_normal(shape) * scale for name, shape in shapes.items()}


def detailed_prior() -> Prior:
    flowing = flowing_prior(5)
    return Prior([1.0], flowing.means, flowing.cholesky, flowing.flow, Details(make_details()))


@pytest.mark.parametrize("prior", [flowing_prior(), detailed_prior()], ids=["flow", "details"])
@given(few=st.integers(1, 9), more=st.integers(0, 9), seed=st.integers(0, MAX_SEED))
def test_the_first_draws_of_a_flow_do_not_depend_on_the_count(
    prior: Prior, few: int, more: int, seed: int
) -> None:
    np.testing.assert_array_equal(prior.draw(few, seed), prior.draw(few + more, seed)[:few])


def test_a_flow_moves_its_coordinates_and_leaves_the_others() -> None:
    prior, flow = flowing_prior(), Flow(make_flow())
    still = Prior([1.0], prior.means, prior.cholesky)
    moved, unmoved = (p.whiten(p.draw(50, 3)) for p in (prior, still))
    np.testing.assert_allclose(moved[:, 2], unmoved[:, 2], atol=1e-5)
    np.testing.assert_allclose(moved[:, :2], flow.carry(unmoved[:, :2]), atol=1e-5)
    assert np.abs(moved[:, :2] - unmoved[:, :2]).min() > 1e-4


def test_a_flow_that_adds_nothing_is_the_gaussian() -> None:
    arrays = make_flow() | {"exit": np.zeros((2, 6)), "exit_bias": np.zeros(2)}
    gaussian = make_prior()
    prior = Prior([1.0], gaussian.means[:1], gaussian.cholesky[:1], Flow(arrays))
    still = Prior([1.0], gaussian.means[:1], gaussian.cholesky[:1])
    np.testing.assert_allclose(prior.draw(9, 4, 0.7), still.draw(9, 4, 0.7), atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"entry": np.zeros((6, 3))},
        {"hidden": np.zeros((6, 6))},
        {"exit": np.zeros(2)},
        {"exit_bias": np.array([0.0, np.nan])},
        {"hidden_bias": np.zeros((3, 6))},
    ],
)
def test_an_impossible_flow_is_refused(change: dict[str, Any]) -> None:
    arrays = {"weights": [1.0], "means": np.zeros((1, 2)), "cholesky": [np.eye(2)]}
    flow = {f"flow_{name}": values for name, values in (make_flow() | change).items()}
    with pytest.raises(ModelFolderError, match="the prior cannot be used"):
        read_prior(npz(**arrays, **flow), 2)


def test_a_flow_needs_one_gaussian_of_its_dimensions() -> None:
    flow = Flow(make_flow())
    with pytest.raises(ValueError, match="one Gaussian"):
        Prior([1.0, 1.0], np.zeros((2, 2)), [np.eye(2)] * 2, flow)
    with pytest.raises(ValueError, match="no fewer dimensions"):
        Prior([1.0], np.zeros((1, 1)), [np.eye(1)], flow)


def test_details_change_the_trailing_coordinates_by_what_the_others_are() -> None:
    details, points = Details(make_details()), np.random.default_rng(3).standard_normal((4, 5))
    completed = details.complete(points)
    np.testing.assert_array_equal(completed[:, :2], points[:, :2])
    assert np.abs(completed[:, 2:] - points[:, 2:]).min() > 1e-3
    points[:, 0] += 1
    assert np.abs(details.complete(points)[:, 2:] - completed[:, 2:]).min() > 1e-4


def test_details_that_draw_nothing_and_keep_everything_change_nothing() -> None:
    still = make_details() | {"exit": np.zeros((3, 3, 6, 2)), "keep": np.ones(3)}
    prior, flowing = detailed_prior(), flowing_prior(5)
    same = Prior([1.0], prior.means, prior.cholesky, prior.flow, Details(still))
    np.testing.assert_array_equal(same.draw(9, 4, 0.7), flowing.draw(9, 4, 0.7))
    assert np.abs(prior.draw(9, 4, 0.7) - flowing.draw(9, 4, 0.7)).max() > 0.01


@pytest.mark.parametrize(
    "change",
    [
        {"picture": np.zeros((5, 12))},
        {"picture": np.zeros((4, 2, 3, 2))},
        {"entry": np.zeros((3, 3, 2, 6))},
        {"entry_bias": np.zeros(6)},
        {"first": np.zeros((2, 5, 5, 6, 6))},
        {"second": np.zeros((1, 3, 3, 6, 6))},
        {"second_bias": np.full((2, 6), np.inf)},
        {"back": np.zeros((2, 3, 2, 5)), "keep": np.zeros(5)},
        {"back": np.zeros((2, 3, 2, 0)), "keep": np.zeros(0)},
        {"keep": np.zeros((3, 1))},
    ],
)
def test_impossible_details_are_refused(change: dict[str, Any]) -> None:
    prior = flowing_prior(5)
    flow = {f"flow_{name}": values for name, values in make_flow().items()}
    details = {f"details_{name}": values for name, values in (make_details() | change).items()}
    content = npz(weights=[1.0], means=prior.means, cholesky=prior.cholesky, **flow, **details)
    with pytest.raises(ModelFolderError, match="the prior cannot be used"):
        read_prior(content, 5)


def test_details_need_a_flow_of_the_leading_coordinates() -> None:
    prior, details = flowing_prior(5), Details(make_details())
    for flow in (None, Flow(make_flow(dim=3))):
        with pytest.raises(ValueError, match="need a flow of the leading coordinates"):
            Prior([1.0], prior.means, prior.cholesky, flow, details)
    smaller = flowing_prior(4)
    with pytest.raises(ValueError, match="a Gaussian of all"):
        Prior([1.0], smaller.means, smaller.cholesky, smaller.flow, details)


def test_reads_a_prior_with_details() -> None:
    prior = detailed_prior()
    flow = {f"flow_{name}": values for name, values in make_flow().items()}
    details = {f"details_{name}": values for name, values in make_details().items()}
    content = npz(weights=prior.weights, means=prior.means, cholesky=prior.cholesky, **flow, **details)
    np.testing.assert_array_equal(read_prior(content, 5).draw(5, 1), prior.draw(5, 1))


def test_reads_a_prior_with_its_flow() -> None:
    prior = flowing_prior()
    flow = {f"flow_{name}": values for name, values in make_flow().items()}
    content = npz(weights=prior.weights, means=prior.means, cholesky=prior.cholesky, **flow)
    np.testing.assert_array_equal(read_prior(content, 3).draw(5, 1), prior.draw(5, 1))


def test_reads_a_prior() -> None:
    prior = make_prior()
    content = npz(weights=prior.weights, means=prior.means, cholesky=prior.cholesky.astype(np.float32))
    draws = read_prior(content, 3).draw(4, 1)
    np.testing.assert_allclose(draws, prior.draw(4, 1), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": [1.0, -1.0]}, "weights are positive"),
        ({"weights": [1.0]}, "do not match"),
        ({"means": [0.0, 0.0]}, "must be of shape"),
        ({"means": [[np.nan, 0.0], [0.0, 0.0]]}, "finite"),
        ({"cholesky": [[[1.0, 1.0], [1.0, 1.0]]] * 2}, "lower triangular"),
        ({"cholesky": [np.zeros((2, 2))] * 2}, "lower triangular"),
        ({"weights": np.array([object(), None])}, "the prior cannot be used"),
        ({"weights": ["a", "b"]}, "the prior cannot be used"),
    ],
)
def test_an_impossible_prior_is_refused(change: dict[str, Any], message: str) -> None:
    arrays = {"weights": [0.5, 0.5], "means": np.zeros((2, 2)), "cholesky": [np.eye(2)] * 2}
    with pytest.raises(ModelFolderError, match=message):
        read_prior(npz(**(arrays | change)), 2)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 truncated", npz(weights=[1.0])])
def test_a_damaged_prior_is_refused(content: bytes) -> None:
    with pytest.raises(ModelFolderError, match="the prior cannot be used"):
        read_prior(content, 2)


def test_a_prior_of_another_latent_size_is_refused() -> None:
    with pytest.raises(ModelFolderError, match="latents of 2 numbers and the model of 8"):
        read_prior(npz(weights=[1.0], means=np.zeros((1, 2)), cholesky=[np.eye(2)]), 8)
