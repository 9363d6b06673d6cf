"""The benchmark's metrics against naive twins, its exact samplers and log densities against each other."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from benchmarks import (
    database_models,
    definitions,
    exact,
    logistic,
    metrics,
    problems_regression,
    references,
)
from benchmarks.problems import PROBLEMS

NAMES = sorted(name for name, problem in PROBLEMS.items() if problem.exact is not None and problem.needs is None)
TWICE = [name for name in NAMES if isinstance(PROBLEMS[name].density, str)]  # written for TensorFlow and for JAX
NUM_DRAWS = 20_000


def draws_of(name: str, n: int = NUM_DRAWS, seed: int = 3) -> np.ndarray:
    sampler = PROBLEMS[name].exact
    assert sampler is not None
    return sampler(n, np.random.default_rng(seed))


# Metrics.


def test_moment_errors_are_in_reference_sds():
    draws = np.array([[0.0, 10.0], [2.0, 30.0]])  # means 1, 20; sds sqrt(2), sqrt(200)
    mean, sd = np.array([0.0, 24.0]), np.array([2.0, 5.0])
    assert metrics.max_mean_error(draws, mean, sd) == pytest.approx(4.0 / 5.0)
    np.testing.assert_allclose(metrics.sd_ratios(draws, sd), [math.sqrt(2) / 2, math.sqrt(200) / 5])
    assert metrics.max_sd_error(draws, sd) == pytest.approx(math.sqrt(200) / 5 - 1)
    assert metrics.max_log_sd_ratio(draws, sd) == pytest.approx(math.log(math.sqrt(200) / 5))
    assert metrics.max_log_sd_ratio(np.ones((3, 2)), sd) == math.inf


@pytest.mark.parametrize(("size_a", "size_b"), [(7, 7), (6, 9), (5, 20), (11, 3)])
def test_wasserstein_agrees_with_scipy(size_a: int, size_b: int):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(size_a, 3)), 1.0 + 2.0 * rng.normal(size=(size_b, 3))
    expected = [stats.wasserstein_distance(a[:, k], b[:, k]) for k in range(3)]
    np.testing.assert_allclose(metrics.wasserstein_1d(a, b), expected, rtol=1e-12)


def test_sliced_wasserstein_of_a_shift_is_the_mean_projection():
    a = np.random.default_rng(0).normal(size=(50, 3))
    shift, sd = np.array([1.0, -2.0, 4.0]), np.array([1.0, 2.0, 8.0])
    expected = np.mean([abs(w @ (shift / sd)) for w in metrics.directions(3)])
    assert metrics.sliced_wasserstein(a, a + shift, sd) == pytest.approx(expected)
    assert metrics.sliced_wasserstein(a, a[::-1], sd) == 0.0


def test_directions_are_unit_vectors_from_their_seed():
    first = metrics.directions(5, 7, seed=1)
    assert first.shape == (7, 5)
    np.testing.assert_allclose((first**2).sum(axis=1), 1.0)
    np.testing.assert_array_equal(first, metrics.directions(5, 7, seed=1))
    assert not np.allclose(first, metrics.directions(5, 7, seed=2))


def test_floor_follows_the_root_of_the_sample_size():
    # Sixteen times the draws, a quarter of the distance.
    small = metrics.sliced_wasserstein_floor(exact.two_modes, np.ones(2), num_draws=200, num_pairs=60, seed=0)
    large = metrics.sliced_wasserstein_floor(exact.two_modes, np.ones(2), num_draws=3_200, num_pairs=60, seed=0)
    assert small[0] / large[0] == pytest.approx(4.0, rel=0.25)
    assert large[1] > large[0]


def test_mode_weights_and_positive_share():
    assignment = np.array([0, 0, 2, 0])
    np.testing.assert_array_equal(metrics.mode_weights(assignment, 4), [0.75, 0.0, 0.25, 0.0])
    assert metrics.max_mode_weight_error(assignment, np.array([0.5, 0.1, 0.2, 0.2])) == pytest.approx(0.25)
    assert metrics.positive_share(np.array([-1.0, 0.0, 2.0, 3.0])) == 0.5


# Problems.


def test_moment_and_correlation_errors():
    draws = np.array([[1.0, 0.0], [3.0, 2.0]])  # means 2 and 1
    assert metrics.rms_mean_error(draws, np.array([1.0, 1.0]), np.array([2.0, 1.0])) == pytest.approx(
        0.5 / math.sqrt(2)
    )
    reference = np.array([[1.0, 1.0], [2.0, 0.0], [3.0, 2.0]])  # squares of the first: 1, 4, 9; of the second: 1, 0, 4
    errors = (5.0 - 14 / 3) ** 2 / np.var([1.0, 4.0, 9.0]), (2.0 - 5 / 3) ** 2 / np.var([1.0, 0.0, 4.0])
    assert metrics.max_second_moment_error(draws, reference) == pytest.approx(max(errors))
    assert metrics.max_correlation_error(draws, reference) == pytest.approx(1.0 - 0.5)
    assert metrics.max_correlation_error(draws[:, :1], reference[:, :1]) == 0.0


def test_the_floor_from_halves_is_the_distance_of_exact_draws():
    rng = np.random.default_rng(0)
    reference, sd = rng.standard_normal((4_000, 3)), np.ones(3)
    direct = [
        metrics.sliced_wasserstein(rng.standard_normal((8_000, 3)), rng.standard_normal((4_000, 3)), sd)
        for _ in range(30)
    ]
    # Halves of one sample scatter about its own floor: a fifth, of which thirty direct pairs know a twentieth.
    mean, quantile = metrics.halves_floor(reference, 8_000, sd)
    assert mean == pytest.approx(np.mean(direct), rel=0.2) and quantile > mean


def test_registry_names_its_rows():
    assert {
        "banana", "ring", "X", "two_modes", "four_modes", "logistic_25", "funnel_10", "eight_schools",
        "avb_eight_schools", "twisted_gaussian", "forty_gaussians", "student_t_2", "student_t_10", "gumbel_5",
        *(f"correlated_gaussian_{size}" for size in (10, 50, 100, 300, 1_000)),
    } == set(NAMES)  # fmt: skip
    regressions = {problem.name for problem in problems_regression.REGRESSIONS}
    assert set(PROBLEMS) == {*NAMES, *regressions, *database_models.SIZES}
    assert set(database_models.MODELS) == set(database_models.SIZES)
    assert all(name == problem.name for name, problem in PROBLEMS.items())


@pytest.mark.parametrize("name", NAMES)
def test_exact_draws_have_the_reference_moments(name: str):
    problem = PROBLEMS[name]
    z = draws_of(name)
    moments = (problem.exact_moments or problem.moments)()
    assert z.shape == (NUM_DRAWS, problem.size)
    assert moments.mean.shape == moments.sd.shape == (problem.size,)
    # Five standard errors of each mean; an sd's standard error is sqrt((kurtosis - 1) / 4n), from the sample.
    assert metrics.max_mean_error(z, moments.mean, moments.sd) < 5.0 / math.sqrt(NUM_DRAWS)
    centred = (z - moments.mean) / moments.sd
    kurtosis = np.maximum((centred**4).mean(axis=0), 3.0)
    if name == "funnel_10":  # the fourth moment of x is e^18 times that of a Gaussian: only v's sd can be estimated
        centred, kurtosis = centred[:, :1], kurtosis[:1]
    sd_errors = np.abs(np.sqrt((centred**2).mean(axis=0)) - 1.0)
    assert np.all(sd_errors < 5.0 * np.sqrt((kurtosis - 1.0) / (4 * NUM_DRAWS)))


@pytest.mark.parametrize("name", [name for name in NAMES if PROBLEMS[name].modes])
def test_exact_draws_have_the_true_mode_weights(name: str):
    modes = PROBLEMS[name].modes
    assert modes is not None
    assert modes.weights.sum() == pytest.approx(1.0)
    assert metrics.max_mode_weight_error(modes.assign(draws_of(name)), modes.weights) < 5 * 0.5 / math.sqrt(NUM_DRAWS)


def test_modes_are_numbered_like_their_centres():
    modes = PROBLEMS["four_modes"].modes
    assert modes is not None
    np.testing.assert_array_equal(modes.assign(definitions.FOUR_CENTRES), [0, 1, 2, 3])


def naive_normal(x: float, mean: float, sd: float) -> float:
    return -0.5 * ((x - mean) / sd) ** 2 - math.log(sd) - 0.5 * math.log(2 * math.pi)


def naive_log_prob(name: str, z: np.ndarray) -> float:
    """Each log density again, one number at a time."""
    if name == "banana":
        return naive_normal(z[0], 0, 1) + naive_normal(z[1], z[0] ** 2, 0.5)
    if name == "ring":
        return -4.0 * (z[0] ** 2 + z[1] ** 2 - 2.0) ** 2
    if name == "X":
        covariances = ([[2, 1.8], [1.8, 2]], [[2, -1.8], [-1.8, 2]])
        return math.log(sum(0.5 * stats.multivariate_normal.pdf(z, [0, 0], c) for c in covariances))
    if name == "two_modes":
        return math.log(sum(0.5 * math.exp(naive_normal(z[0], m, 1) + naive_normal(z[1], 0, 1)) for m in (-2, 2)))
    if name == "four_modes":
        parts = [(1 / 8, -3, 0), (1 / 8, 3, 0), (1 / 2, 0, 3), (1 / 4, 0, -3)]
        return math.log(sum(w * math.exp(naive_normal(z[0], a, 1) + naive_normal(z[1], b, 1)) for w, a, b in parts))
    if name == "logistic_25":
        r = np.random.RandomState(2)
        x = r.randn(500, 25) @ (np.eye(25) + 0.2 * r.randn(25, 25))
        w = 0.5 * r.randn(25)
        y = r.rand(500) < 1 / (1 + np.exp(-x @ w))
        margins = [row @ z if label else -row @ z for row, label in zip(x, y, strict=True)]
        return sum(math.log(1 / (1 + math.exp(-margin))) for margin in margins) + sum(
            naive_normal(value, 0, 2) for value in z
        )
    if name == "funnel_10":
        return naive_normal(z[0], 0, 3) + sum(naive_normal(x, 0, math.exp(z[0] / 2)) for x in z[1:])
    if name == "eight_schools":
        y, sigma = (28, 8, -3, 7, -1, 1, 18, 12), (15, 10, 16, 11, 9, 11, 10, 18)
        eta, mu, tau = z[:8], z[8], math.exp(z[9])
        total = naive_normal(mu, 0, 5) + math.log(2 * stats.cauchy.pdf(tau, 0, 5)) + z[9]
        triples = zip(eta, y, sigma, strict=True)
        return total + sum(naive_normal(e, 0, 1) + naive_normal(b, mu + tau * e, s) for e, b, s in triples)
    if name == "avb_eight_schools":
        y, sigma = (2.8, 0.8, -0.3, 0.7, -0.1, 0.1, 1.8, 1.2), (0.8, 0.5, 0.8, 0.6, 0.5, 0.6, 0.5, 0.4)
        total = naive_normal(z[0], 0, 1) + naive_normal(z[1], 0, 1)
        triples = zip(z[2:], y, sigma, strict=True)
        return total + sum(naive_normal(e, 0, 1) + naive_normal(b, z[0] + z[1] * e, s) for e, b, s in triples)
    raise KeyError(name)


def some_points(name: str) -> np.ndarray:
    """Draws, and points a little off, where densities differ that agree on their bulk."""
    z = draws_of(name, 6)
    return np.concatenate([z, 0.7 * z + 0.3])


@pytest.mark.parametrize("name", TWICE)
def test_tensorflow_density_agrees_with_the_naive_one(name: str):
    import tensorflow as tf

    problem, z = PROBLEMS[name], some_points(name)
    target, data, keywords = problem.fit_arguments()
    if name == "eight_schools":
        draws = {"theta_trans": z[:, :8], "mu": z[:, 8], "tau": np.exp(z[:, 9])}
        parts = {key: tf.constant(part, tf.float32) for key, part in draws.items()}
        assert keywords == {}
        got = target.log_prob(**parts, **data).numpy() + z[:, 9]  # the log-Jacobian is the package's to add
    elif name == "avb_eight_schools":
        draws = {"mu": z[:, 0], "tau": z[:, 1], "eta": z[:, 2:]}
        assert keywords["event_shape"] == {"mu": [], "tau": [], "eta": [8]}
        got = target(**{key: tf.constant(part, tf.float32) for key, part in draws.items()}).numpy()
    else:
        draws = z
        assert keywords["event_shape"] == [problem.size]
        got = target(tf.constant(z, tf.float32)).numpy()
    np.testing.assert_allclose(problem.to_vector(draws), z, atol=1e-12)
    np.testing.assert_allclose(got, [naive_log_prob(name, row) for row in z], rtol=2e-5, atol=2e-4)


@pytest.mark.filterwarnings("ignore")  # JAX's own, which change from version to version
@pytest.mark.parametrize("name", TWICE)
def test_jax_density_agrees_with_the_naive_one(name: str):
    jax = pytest.importorskip("jax")
    z = some_points(name)
    got = jax.vmap(PROBLEMS[name].jax_log_prob())(jax.numpy.asarray(z, "float32"))
    np.testing.assert_allclose(got, [naive_log_prob(name, row) for row in z], rtol=2e-5, atol=2e-4)


def test_numpy_logistic_density_agrees_with_the_naive_one():
    z = some_points("logistic_25")
    np.testing.assert_allclose(
        exact.logistic_posterior().log_prob(z), [naive_log_prob("logistic_25", row) for row in z], rtol=1e-10
    )


def test_ring_evidence_is_its_integral():
    side = np.linspace(-3.0, 3.0, 601)
    grid = np.stack(np.meshgrid(side, side), axis=-1)
    total = np.exp(-4.0 * ((grid**2).sum(axis=-1) - 2.0) ** 2).sum() * (side[1] - side[0]) ** 2
    evidence = PROBLEMS["ring"].log_evidence
    assert evidence is not None and evidence() == pytest.approx(math.log(total), abs=1e-9)


def test_avb_eight_schools_quadrature_has_the_published_numbers():
    named = PROBLEMS["avb_eight_schools"].named_moments
    assert named is not None
    got = named()
    np.testing.assert_allclose([got["mu"].mean[0], got["mu"].sd[0]], [0.7764, 0.3238], atol=5e-5)
    np.testing.assert_allclose([got["abs_tau"].mean[0], got["abs_tau"].sd[0]], [0.7024, 0.3597], atol=5e-5)
    assert exact.avb_eight_schools_posterior().log_evidence == pytest.approx(-12.7108, abs=5e-5)


@pytest.mark.parametrize("name", ["eight_schools", "avb_eight_schools", "logistic_25"])
def test_evidence_agrees_with_importance_sampling(name: str):
    """A Student t around exact draws, weighted by the naive density, integrates to the stored evidence."""
    z = draws_of(name)
    if name == "avb_eight_schools":  # one mode, and its mirror image weighs the same
        z = z * np.where(z[:, 1:2] > 0, 1.0, [[1.0] + [-1.0] * 9])
    student = logistic.StudentProposal(z.mean(axis=0), 1.1 * np.linalg.cholesky(np.cov(z.T)), 8.0)
    n = 1_000 if name == "logistic_25" else 15_000
    points, log_density = student.sample(n, np.random.default_rng(0))
    log_weights = np.array([naive_log_prob(name, point) for point in points]) - log_density
    evidence = PROBLEMS[name].log_evidence
    assert evidence is not None
    weights = np.exp(log_weights - evidence())
    # A draw with tau < 0 belongs to the other mode and its half of the mass.
    weights = 2.0 * weights * (points[:, 1] > 0) if name == "avb_eight_schools" else weights
    assert weights.mean() == pytest.approx(1.0, abs=4.0 * weights.std() / math.sqrt(n))
    assert weights.std() / math.sqrt(n) < 0.05


# References.


def test_posteriordb_moments_agree_with_quadrature():
    problem = PROBLEMS["eight_schools"]
    assert problem.exact_moments is not None and problem.named_moments is not None
    stored, truth = problem.moments(), problem.exact_moments()
    posterior = exact.eight_schools_posterior()
    exact_named = {
        "theta": posterior.theta(), "mu": posterior.mu(), "tau": posterior.tau_function(posterior.tau),
    }  # fmt: skip
    pairs = [(stored, truth), *((problem.named_moments()[name], pair) for name, pair in exact_named.items())]
    for (mean, sd), (true_mean, true_sd) in pairs:
        assert np.max(np.abs(mean - true_mean) / true_sd) < 4.0 / math.sqrt(10_000)
        assert np.max(np.abs(sd / true_sd - 1.0)) < 0.04  # tails of tau are heavier than a Gaussian's


def test_posteriordb_draws_are_read_from_a_path(tmp_path, monkeypatch):
    import zipfile

    monkeypatch.setenv(references.POSTERIORDB_VARIABLE, str(tmp_path))
    assert references.posteriordb_path(None) == tmp_path
    assert references.posteriordb_path("elsewhere").name == "elsewhere"
    chains = [{f"theta[{j}]": [1.0 + 2.0 * j] for j in range(1, 9)} | {"mu": [1.0], "tau": [2.0]} for _ in range(2)]
    for root in (tmp_path, tmp_path / "posterior_database"):
        file = root / references.EIGHT_SCHOOLS_FILE
        file.parent.mkdir(parents=True)
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("draws.json", json.dumps(chains))
        z = references.eight_schools_draws(tmp_path)
        np.testing.assert_allclose(z, [[1, 2, 3, 4, 5, 6, 7, 8, 1, math.log(2)]] * 2)
        np.testing.assert_allclose(references.eight_schools_theta(z)["theta"][0], 1.0 + 2.0 * np.arange(1, 9))
