from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import ModelFolderError
from app.model.latents import MAX_SEED, standard_draws
from app.model.prior import GaussianMixture, GeneratorPrior, Prior, read_prior
from app.model.prior_networks import CoarseGenerator, FineGenerator
from tests.app.model.priors import (
    coarse_layers,
    coarse_prior,
    fine_layers,
    fine_prior,
    generator_file,
    make_gaussian,
    make_mixture,
    prior_file,
)

SHIPPED = Path(__file__).parents[3] / "models" / "car-vae"
FROZEN = {
    (1, 0, 0.0): [0.043484415858983994, 0.017841670662164688, 0.007605704013258219, -0.009794749319553375],
    (1, 0, 0.7): [0.4290253818035126, -0.21467402577400208, 0.1414157748222351, -1.0142951011657715],
    (1, 0, 1.0): [0.5942572355270386, -0.3143236041069031, 0.1987629532814026, -1.4447952508926392],
    (1, 7, 0.0): [0.043484415858983994, 0.017841670662164688, 0.007605704013258219, -0.009794749319553375],
    (1, 7, 0.7): [0.02686976082623005, -0.6357617378234863, 0.0647110790014267, -0.20323888957500458],
    (1, 7, 1.0): [0.019749194383621216, -0.9158774614334106, 0.08918480575084686, -0.28614354133605957],
    (1, MAX_SEED, 0.0): [
        0.04636189714074135,
        0.047326453030109406,
        -0.029697587713599205,
        -0.024446187540888786,
    ],
    (1, MAX_SEED, 0.7): [0.7153583765029907, 0.09859095513820648, -0.23685264587402344, -0.1139485090970993],
    (1, MAX_SEED, 1.0): [1.0020711421966553, 0.12056145817041397, -0.3256334066390991, -0.15230664610862732],
    (2, 0, 0.0): [0.8683550357818604, 0.31348350644111633, 0.3108310103416443, -0.2796708345413208],
    (2, 0, 0.7): [1.4963624477386475, 0.49131008982658386, -0.1159130334854126, 0.23083868622779846],
    (2, 0, 1.0): [1.3001796007156372, 0.5486857295036316, 0.8945337533950806, -1.2099624872207642],
    (2, 7, 0.0): [0.8683550357818604, 0.31348350644111633, 0.3108310103416443, -0.2796708345413208],
    (2, 7, 0.7): [0.08745348453521729, 0.564435601234436, 0.00031876203138381243, -0.5433407425880432],
    (2, 7, 1.0): [-0.018627488985657692, -0.06323349475860596, 0.3409128487110138, -1.0696736574172974],
    (2, MAX_SEED, 0.0): [0.8683550357818604, 0.31348350644111633, 0.3108310103416443, -0.2796708345413208],
    (2, MAX_SEED, 0.7): [1.1784813404083252, -0.4313800036907196, 0.6712378263473511, -0.2617875039577484],
    (2, MAX_SEED, 1.0): [1.146960735321045, -0.6470884084701538, 1.0431808233261108, -1.8539328575134277],
}
"""(version, seed, temperature) -> some coordinates of the fifth draw from a shipped prior."""


@pytest.fixture(scope="module")
def shipped() -> dict[int, Prior]:
    return {
        version: read_prior((SHIPPED / str(version) / "prior.npz").read_bytes(), 256) for version in (1, 2)
    }


@pytest.mark.parametrize("key", FROZEN, ids=str)
def test_draws_of_the_shipped_priors_are_the_frozen_ones(
    shipped: dict[int, Prior], key: tuple[int, int, float]
) -> None:
    version, seed, temperature = key
    drawn = shipped[version].draw(5, seed, temperature)[4, [0, 1, 100, 255]]
    np.testing.assert_array_equal(drawn, np.array(FROZEN[key], dtype=np.float32))


def test_a_file_gives_the_prior_that_it_holds(shipped: dict[int, Prior]) -> None:
    mixture, generator = shipped[1], shipped[2]
    assert isinstance(mixture, GaussianMixture)
    assert isinstance(generator, GeneratorPrior)
    assert generator.fine is not None
    assert mixture.latent_dim == generator.latent_dim == 256


def test_whitening_of_the_shipped_priors_is_the_frozen_one(shipped: dict[int, Prior]) -> None:
    deviations = {1: [1.87464699, 1.63257739, 1.52249363], 2: [1.38469545, 1.37062107, 1.29801345]}
    whitened = {1: [0.82542875, -0.45004912, -0.8542715], 2: [1.01590078, 0.49306181, 0.17818789]}
    for version, prior in shipped.items():
        np.testing.assert_allclose(prior.principal_directions(3)[1], deviations[version], rtol=1e-7)
        np.testing.assert_allclose(prior.whiten(prior.draw(3, 1))[0, :3], whitened[version], rtol=1e-6)


def test_draws_of_a_mixture_are_noise_around_the_means() -> None:
    prior = GaussianMixture([0.5, 0.5], [[10.0, 0.0], [-10.0, 0.0]], [np.eye(2), np.eye(2)])
    noise = standard_draws(4, 2, 7)
    draws = prior.draw(4, 7)
    np.testing.assert_allclose(draws[:, 1], noise[:, 1])
    np.testing.assert_allclose(draws[:, 0] - noise[:, 0], [-10, 10, -10, 10], atol=1e-5)


def test_temperature_scales_deviations_from_the_means_of_the_components() -> None:
    prior = make_mixture()
    cold, warm, hot = (prior.draw(20, 1, temperature) for temperature in (0.0, 1.0, 2.0))
    np.testing.assert_allclose(hot - cold, 2 * (warm - cold), atol=1e-5)
    assert {tuple(row) for row in cold} == {tuple(row) for row in prior.means.astype(np.float32)}


@given(
    st.integers(1, 64), st.integers(1, 64), st.integers(0, MAX_SEED), st.floats(0, 2, allow_subnormal=False)
)
def test_the_first_draws_of_a_mixture_do_not_depend_on_the_count(
    few: int, many: int, seed: int, temperature: float
) -> None:
    few, many = sorted((few, many))
    prior = make_mixture()
    np.testing.assert_array_equal(
        prior.draw(few, seed, temperature), prior.draw(many, seed, temperature)[:few]
    )


def test_draws_have_the_moments_of_the_mixture() -> None:
    prior = make_mixture()
    draws = prior.draw(20_000, 3).astype(np.float64)
    expected = 0.75 * prior.means[0] + 0.25 * prior.means[1]
    np.testing.assert_allclose(draws.mean(axis=0), expected, atol=0.05)
    offset = prior.means[0] - prior.means[1]
    within = sum(w * f @ f.T for w, f in zip((0.75, 0.25), prior.cholesky, strict=True))
    covariance = within + 0.75 * 0.25 * np.outer(offset, offset)
    np.testing.assert_allclose(np.cov(draws.T), covariance, atol=0.1)


def test_whitened_draws_have_mean_0_and_covariance_1() -> None:
    prior = make_mixture(scale=50.0)
    whitened = prior.whiten(prior.draw(20_000, 3))
    np.testing.assert_allclose(whitened.mean(axis=0), np.zeros(3), atol=0.05)
    np.testing.assert_allclose(np.cov(whitened.T), np.eye(3), atol=0.05)


@pytest.mark.parametrize("prior", [make_mixture(dim=8), coarse_prior(dim=8)], ids=["mixture", "generator"])
def test_unwhiten_is_the_inverse_of_whiten(prior: Prior) -> None:
    latents = standard_draws(5, 8, 1) * 10
    np.testing.assert_allclose(prior.unwhiten(prior.whiten(latents)), latents, rtol=1e-9, atol=1e-9)


def test_principal_directions_are_where_draws_vary_most() -> None:
    prior = make_mixture(6)
    vectors, deviations = prior.principal_directions(3)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(3), atol=1e-12)
    assert (np.diff(deviations) < 0).all()
    draws = prior.draw(20_000, seed=3).astype(np.float64)
    np.testing.assert_allclose((draws @ vectors.T).std(axis=0), deviations, rtol=0.03)
    variances = np.linalg.eigvalsh(np.cov(draws.T))[::-1]
    np.testing.assert_allclose(np.sqrt(variances[:3]), deviations, rtol=0.03)


def test_principal_directions_have_one_sign_and_no_more_than_there_are() -> None:
    prior = GaussianMixture([1.0], [[0.0, 0.0]], [np.diag([1.0, 5.0])])
    vectors, deviations = prior.principal_directions(8)
    np.testing.assert_allclose(vectors, [[0, 1], [1, 0]], atol=1e-12)
    np.testing.assert_allclose(deviations, [5, 1])


def test_a_generator_has_the_directions_of_its_gaussian() -> None:
    mean, factor = make_gaussian()
    single = GaussianMixture([1.0], [mean], [factor])
    for found, expected in zip(
        coarse_prior().principal_directions(2), single.principal_directions(2), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("prior", [coarse_prior(), fine_prior()], ids=["coarse", "fine"])
@given(few=st.integers(1, 9), more=st.integers(0, 9), seed=st.integers(0, MAX_SEED))
def test_the_first_draws_of_a_generator_do_not_depend_on_the_count(
    prior: Prior, few: int, more: int, seed: int
) -> None:
    np.testing.assert_array_equal(prior.draw(few, seed), prior.draw(few + more, seed)[:few])


def test_a_coarse_generator_moves_its_coordinates_and_leaves_the_others() -> None:
    mean, factor = make_gaussian()
    still = GaussianMixture([1.0], [mean], [factor])
    moved, unmoved = (prior.whiten(prior.draw(50, 3)) for prior in (coarse_prior(), still))
    np.testing.assert_allclose(moved[:, 2], unmoved[:, 2], atol=1e-5)
    np.testing.assert_allclose(moved[:, :2], CoarseGenerator(coarse_layers())(unmoved[:, :2]), atol=1e-5)
    assert np.abs(moved[:, :2] - unmoved[:, :2]).min() > 1e-4


def test_a_coarse_generator_that_adds_nothing_gives_the_gaussian() -> None:
    arrays = coarse_layers() | {"exit": np.zeros((2, 6)), "exit_bias": np.zeros(2)}
    mean, factor = make_gaussian()
    prior = GeneratorPrior(mean, factor, CoarseGenerator(arrays))
    still = GaussianMixture([1.0], [mean], [factor])
    np.testing.assert_allclose(prior.draw(9, 4, 0.7), still.draw(9, 4, 0.7), atol=1e-6)


def test_a_fine_generator_that_draws_nothing_and_keeps_everything_changes_nothing() -> None:
    still = FineGenerator(fine_layers() | {"exit": np.zeros((3, 3, 6, 2)), "keep": np.ones(3)})
    coarse = coarse_prior(5)
    same = GeneratorPrior(*make_gaussian(5), coarse.coarse, still)
    np.testing.assert_array_equal(same.draw(9, 4, 0.7), coarse.draw(9, 4, 0.7))
    assert np.abs(fine_prior().draw(9, 4, 0.7) - coarse.draw(9, 4, 0.7)).max() > 0.01


def test_a_coarse_generator_needs_a_gaussian_of_its_dimensions() -> None:
    with pytest.raises(ValueError, match="no fewer dimensions"):
        GeneratorPrior(*make_gaussian(1), CoarseGenerator(coarse_layers()))


def test_a_fine_generator_needs_a_coarse_one_of_the_leading_coordinates() -> None:
    fine = FineGenerator(fine_layers())
    with pytest.raises(ValueError, match="needs a coarse one of the leading coordinates"):
        GeneratorPrior(*make_gaussian(5), CoarseGenerator(coarse_layers(dim=3)), fine)
    with pytest.raises(ValueError, match="a Gaussian of all"):
        GeneratorPrior(*make_gaussian(4), CoarseGenerator(coarse_layers()), fine)


def test_a_file_with_both_generators_is_read() -> None:
    content = generator_file(5, coarse_layers(), fine_layers())
    np.testing.assert_array_equal(read_prior(content, 5).draw(5, 1), fine_prior().draw(5, 1))


def test_a_file_with_a_coarse_generator_is_read() -> None:
    content = generator_file(3, coarse_layers())
    np.testing.assert_array_equal(read_prior(content, 3).draw(5, 1), coarse_prior().draw(5, 1))


def test_a_file_with_a_mixture_is_read() -> None:
    prior = make_mixture()
    content = prior_file(weights=prior.weights, means=prior.means, cholesky=prior.cholesky.astype(np.float32))
    draws = read_prior(content, 3).draw(4, 1)
    np.testing.assert_allclose(draws, prior.draw(4, 1), atol=1e-5)


def test_generators_in_a_file_need_one_gaussian() -> None:
    mixture = make_mixture()
    layers = {f"flow_{name}": values for name, values in coarse_layers().items()}
    content = prior_file(weights=mixture.weights, means=mixture.means, cholesky=mixture.cholesky, **layers)
    with pytest.raises(ModelFolderError, match="generators need one Gaussian"):
        read_prior(content, 3)


@pytest.mark.parametrize(
    ("coarse", "fine", "message"),
    [
        (coarse_layers() | {"exit": np.zeros(2)}, None, "coarse generator"),
        ({"entry": np.zeros((6, 2))}, None, "flow_entry_bias"),
        (coarse_layers(), fine_layers() | {"keep": np.zeros(0)}, "fine generator"),
        (coarse_layers(), fine_layers() | {"picture": np.zeros((4, 2, 3, 2))}, "a Gaussian of all"),
        (None, fine_layers(), "a fine generator needs a coarse one"),
    ],
)
def test_impossible_generators_in_a_file_are_refused(coarse: Any, fine: Any, message: str) -> None:
    with pytest.raises(ModelFolderError, match=f"the prior cannot be used .*{message}"):
        read_prior(generator_file(5, coarse, fine), 5)


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
def test_an_impossible_mixture_is_refused(change: dict[str, Any], message: str) -> None:
    arrays = {"weights": [0.5, 0.5], "means": np.zeros((2, 2)), "cholesky": [np.eye(2)] * 2}
    with pytest.raises(ModelFolderError, match=message):
        read_prior(prior_file(**(arrays | change)), 2)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 truncated", prior_file(weights=[1.0])])
def test_a_damaged_prior_is_refused(content: bytes) -> None:
    with pytest.raises(ModelFolderError, match="the prior cannot be used"):
        read_prior(content, 2)


def test_a_prior_of_another_latent_size_is_refused() -> None:
    with pytest.raises(ModelFolderError, match="latents of 2 numbers and the model of 8"):
        read_prior(prior_file(weights=[1.0], means=np.zeros((1, 2)), cholesky=[np.eye(2)]), 8)
