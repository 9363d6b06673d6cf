"""The warm start: scales of any size, every reachable mode, exact Laplace approximations, and named refusals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from neural_vb import warm_start as module
from neural_vb._types import Array, Tensor
from neural_vb.errors import ImproperDensityError, TargetValueError
from neural_vb.probing import Probe
from neural_vb.targets import LogProbTarget
from neural_vb.warm_start import Laplace, WarmStart, cover, dispersed_points, find_optima, laplace, optimise

LogProb = Callable[[Tensor], Tensor]
NUM_PARTICLES = 1_024
# Particles are resampled and correlated: count a quarter of them. Four standard errors of a log scale and of a mean.
LOG_SCALE_TOLERANCE = 4.0 / np.sqrt(2.0 * NUM_PARTICLES / 4)
MEAN_TOLERANCE = 4.0 / np.sqrt(NUM_PARTICLES / 4)


@pytest.fixture(autouse=True)
def fewer_particles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NUM_PARTICLES", NUM_PARTICLES)


def constant(values: object, z: Tensor) -> Tensor:
    return tf.constant(values, z.dtype)


def gaussian(mean: Array, covariance: Array, log_z: float = 0.0) -> LogProb:
    mean, covariance = np.asarray(mean, float), np.asarray(covariance, float)
    precision = np.linalg.inv(covariance)
    offset = log_z - 0.5 * np.linalg.slogdet(2.0 * np.pi * covariance)[1]

    def log_prob(z: Tensor) -> Tensor:
        centred = z - constant(mean, z)
        return constant(offset, z) - 0.5 * tf.einsum("ni,ij,nj->n", centred, constant(precision, z), centred)

    return log_prob


def evaluator(log_prob: LogProb, event_size: int) -> Probe:
    return Probe(LogProbTarget(log_prob, event_shape=[event_size], dtype=tf.float64))


def start(
    log_prob: LogProb, event_size: int, *, dtype: tf.DType = tf.float64, points: Array | None = None, **options: object
) -> WarmStart:
    precise = LogProbTarget(log_prob, event_shape=[event_size], dtype=tf.float64)
    return module.warm_start(
        LogProbTarget(log_prob, event_shape=[event_size], dtype=dtype),
        evaluate=Probe(precise),
        points=dispersed_points(event_size, 64, seed=0) if points is None else points,
        seed=0,
        jit_compile=False,
        **options,
    )


def check_moments(found: WarmStart, mean: Array, covariance: Array) -> None:
    """Whitening by the found moments makes the exact ones standard, up to Monte Carlo error."""
    inverse = np.linalg.inv(found.target.whitening.scale_tril)
    centre = inverse @ (np.asarray(mean) - found.target.whitening.shift)
    shape = inverse @ covariance @ inverse.T
    np.testing.assert_allclose(centre, 0.0, atol=MEAN_TOLERANCE)
    np.testing.assert_allclose(0.5 * np.log(np.linalg.eigvalsh(shape)), 0.0, atol=1.5 * LOG_SCALE_TOLERANCE)


def test_dispersed_points_have_four_scales_and_the_origin() -> None:
    points = dispersed_points(3, 4_000, seed=1)
    np.testing.assert_array_equal(points, dispersed_points(3, 4_000, seed=1))
    assert (points != dispersed_points(3, 4_000, seed=2))[1:].all()
    assert points.shape == (4_000, 3) and not points[0].any()
    assert np.abs(points[1:2_000]).max() < 2.0
    assert points[2_000:3_000].std() == pytest.approx(5.0, rel=4.0 / np.sqrt(2 * 3_000))
    assert points[3_000:].std() == pytest.approx(20.0, rel=4.0 / np.sqrt(2 * 3_000))


def test_the_evaluator_gives_values_and_gradients_in_float64() -> None:
    evaluate = evaluator(lambda z: tf.sin(z[:, 0]) * z[:, 1], 2)
    z = np.random.RandomState(0).randn(5, 2)
    log_prob, gradient = evaluate(z)
    np.testing.assert_allclose(log_prob, np.sin(z[:, 0]) * z[:, 1], rtol=1e-12)
    np.testing.assert_allclose(gradient, np.stack([np.cos(z[:, 0]) * z[:, 1], np.sin(z[:, 0])], -1), rtol=1e-12)


def test_optimise_finds_the_mode() -> None:
    mean = np.array([3.0, -40.0])
    found, log_prob = optimise(evaluator(gaussian(mean, np.diag([0.01, 100.0]), 2.0), 2), np.zeros(2))
    np.testing.assert_allclose(found, mean, atol=1e-3)
    assert log_prob == pytest.approx(2.0 - np.log(2 * np.pi), abs=1e-6)


COVARIANCES = {
    "scalar": [[0.3]],
    "units": np.diag([1e-6, 1.0, 1e8]) ** 2,
    "correlated": [[1.0, 0.999], [0.999, 1.0]],
    "correlated in units": [[1e-12, 0.999e-3], [0.999e-3, 1e6]],
    "ten": np.eye(10) + 3.0,
}


@pytest.mark.parametrize("name", COVARIANCES)
def test_the_laplace_approximation_of_a_gaussian_is_exact(name: str) -> None:
    covariance = np.array(COVARIANCES[name])
    origin = np.zeros(len(covariance))
    found = laplace(evaluator(gaussian(origin, covariance, -7.5), len(covariance)), origin)
    scales = np.sqrt(np.diag(covariance))
    shape = found.scale_tril @ found.scale_tril.T / np.outer(scales, scales)
    np.testing.assert_allclose(shape, covariance / np.outer(scales, scales), atol=1e-5)
    assert found.log_evidence == pytest.approx(-7.5, abs=1e-4)


def test_laplace_scales_are_measured_where_there_is_no_curvature() -> None:
    """log p = -z^4 falls by half a nat at .84; its second derivative at zero is zero."""
    found = laplace(evaluator(lambda z: -(z[:, 0] ** 4), 1), np.zeros(1))
    assert 0.5 ** (1 / 4) / 2 < found.scale_tril[0, 0] < 2 * 0.5 ** (1 / 4)


def test_laplace_is_equivariant_to_units() -> None:
    def log_prob(z: Tensor) -> Tensor:
        return -tf.math.log(tf.cosh(z[:, 0])) - 0.25 * z[:, 1] ** 4 - 0.5 * (z[:, 0] + z[:, 1]) ** 2

    units = np.array([2.0**5, 2.0**-17])  # powers of two, as is the grid on which scales are searched
    plain = laplace(evaluator(log_prob, 2), np.zeros(2))
    other = laplace(evaluator(lambda z: log_prob(z / constant(units, z)), 2), np.zeros(2))
    np.testing.assert_allclose(other.scale_tril, plain.scale_tril * units[:, None], rtol=1e-4)
    assert other.log_evidence - np.log(units).sum() == pytest.approx(plain.log_evidence, abs=1e-4)


def test_the_cover_has_the_moments_of_the_tempered_mixture() -> None:
    rng = np.random.RandomState(0)
    optima = [
        Laplace(3.0 * rng.randn(2), np.tril(rng.rand(2, 2)) + np.eye(2), evidence) for evidence in (0.0, 2.0, -1e6)
    ]
    weights = np.array([1.0, np.exp(1.0), 0.0]) / (1.0 + np.exp(1.0))
    mean = sum(w * o.mean for w, o in zip(weights, optima, strict=True))
    second = sum(
        w * (o.scale_tril @ o.scale_tril.T + np.outer(o.mean, o.mean)) for w, o in zip(weights, optima, strict=True)
    )
    found_mean, found_scale = cover(optima)
    np.testing.assert_allclose(found_mean, mean)
    np.testing.assert_allclose(found_scale @ found_scale.T, second - np.outer(mean, mean), rtol=1e-9, atol=1e-9)


def two_modes(z: Tensor) -> Tensor:
    """.3 N((-20, 0), I) + .7 N((20, 15), I), of mass e^3."""
    parts = [
        np.log(weight) - 0.5 * tf.reduce_sum((z - constant(mean, z)) ** 2, -1)
        for weight, mean in ((0.3, [-20.0, 0.0]), (0.7, [20.0, 15.0]))
    ]
    return 3.0 - np.log(2 * np.pi) + tf.reduce_logsumexp(tf.stack(parts), 0)


def test_each_optimum_is_listed_once() -> None:
    optima = find_optima(evaluator(two_modes, 2), dispersed_points(2, 64, seed=0)[::6])
    found = sorted(optimum.mean.tolist() for optimum in optima)
    np.testing.assert_allclose(found, [[-20.0, 0.0], [20.0, 15.0]], atol=1e-3)
    np.testing.assert_allclose(
        sorted(o.log_evidence for o in optima), [3.0 + np.log(0.3), 3.0 + np.log(0.7)], atol=1e-3
    )


@pytest.mark.parametrize("name", ["units", "correlated", "ten"])
def test_a_gaussian_of_any_scale_is_found(name: str) -> None:
    covariance = np.array(COVARIANCES[name])
    mean = np.sqrt(np.diag(covariance)) * 2.0
    found = start(gaussian(mean, covariance, -4.0), len(mean))
    check_moments(found, mean, covariance)
    assert found.numbers["log_evidence"] == pytest.approx(-4.0, abs=0.5)
    assert found.target.offset == found.numbers["log_evidence"]
    if len(found.base.log_weights) == 1:
        np.testing.assert_array_equal(found.base.scale_trils, np.eye(len(mean))[None])
    assert np.sqrt(len(mean)) < found.target.max_score < 12.0


def test_units_change_nothing_but_the_whitening() -> None:
    covariance, units = np.array([[1.0, 0.5], [0.5, 2.0]]), np.array([1e-6, 1e8])
    points = dispersed_points(2, 64, seed=0)
    for scale in (np.ones(2), units):
        found = start(gaussian(3.0 * scale, covariance * np.outer(scale, scale)), 2, points=points)
        check_moments(found, 3.0 * scale, covariance * np.outer(scale, scale))
        assert found.numbers["optima"] == 1.0
        u = tf.constant(np.random.RandomState(0).randn(6, 1, 2), tf.float32)
        z = u.numpy()[:, 0] @ found.target.whitening.scale_tril.T + found.target.whitening.shift
        noise = np.linalg.solve(np.linalg.cholesky(covariance), (z / scale - 3.0).T)
        # log p(z) in units of u: a normalised Gaussian, so that only the exact one's shape is left.
        exact = -0.5 * (noise**2).sum(0) - 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1] - np.log(scale).sum()
        np.testing.assert_allclose(
            found.target.log_prob(u)[:, 0], exact + found.target.whitening.log_det - found.target.offset, atol=1e-3
        )


def test_a_float32_target_is_fine() -> None:
    found = start(gaussian([1.0, 2.0], np.diag([4.0, 0.25])), 2, dtype=tf.float32)
    check_moments(found, [1.0, 2.0], np.diag([4.0, 0.25]))


def test_two_separated_modes_are_both_there_with_their_weights() -> None:
    reached: list[str] = []
    found = start(two_modes, 2, report=reached.append)
    assert reached == ["optimise", "particles", "mixture"]
    assert found.numbers["optima"] == 2.0 and found.numbers["components"] == 2.0
    means = found.base.means @ found.target.whitening.scale_tril.T + found.target.whitening.shift
    order = np.argsort(means[:, 0])
    np.testing.assert_allclose(means[order], [[-20.0, 0.0], [20.0, 15.0]], atol=1.0)
    weights = np.exp(found.base.log_weights[order])
    np.testing.assert_allclose(weights, [0.3, 0.7], atol=4.0 * np.sqrt(0.21 / (NUM_PARTICLES / 4)))
    scale_trils = np.einsum("ij,kjl->kil", found.target.whitening.scale_tril, found.base.scale_trils)
    for covariance in scale_trils @ scale_trils.transpose(0, 2, 1):
        np.testing.assert_allclose(covariance, np.eye(2), atol=0.5)
    assert found.numbers["log_evidence"] == pytest.approx(3.0, abs=0.5)


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64], ids=["float32", "float64"])
def test_a_canyon_between_the_modes_costs_no_precision(dtype: tf.DType) -> None:
    """log p is -1e9 at the centre; the integral of exp(-1 / x^2 - x^2 / 2) over x is sqrt(2 pi) exp(-sqrt 2)."""

    def log_prob(z: Tensor) -> Tensor:
        x = z[..., 0]
        return -1.0 / (x**2 + 1e-9) - 0.5 * tf.reduce_sum(z**2, -1)

    found = start(log_prob, 2, dtype=dtype)
    assert found.numbers["log_evidence"] == pytest.approx(np.log(2.0 * np.pi) - np.sqrt(2.0), abs=0.2)
    expected = np.diag([1.0 + np.sqrt(2.0), 1.0])  # E x^2, from the derivative of the integral in the 1/2
    check_moments(found, [0.0, 0.0], expected)


def test_a_ring_is_covered_all_around() -> None:
    found = start(lambda z: -4.0 * (tf.reduce_sum(z**2, -1) - 2.0) ** 2, 2)
    np.testing.assert_allclose(found.target.whitening.shift, 0.0, atol=MEAN_TOLERANCE)
    np.testing.assert_allclose(found.target.whitening.scale_tril, np.eye(2), atol=0.2)  # E |z|^2 = 2
    means = found.base.means[np.exp(found.base.log_weights) > 0.01]
    gaps = np.diff(np.sort(np.arctan2(means[:, 1], means[:, 0])))
    assert len(means) >= 4 and gaps.max() < np.pi * 2 / 3


def test_the_users_moments_replace_the_search() -> None:
    mean, covariance = np.array([500.0, -300.0]), np.array([[1.0, 0.3], [0.3, 0.5]])
    given = (mean + 0.3, np.linalg.cholesky(2.0 * covariance))
    found = start(gaussian(mean, covariance), 2, moments=given)
    assert found.numbers["optima"] == 0.0
    check_moments(found, mean, covariance)


def test_equal_seeds_give_equal_starts() -> None:
    first, second = (start(gaussian([1.0], [[2.0]]), 1) for _ in range(2))
    np.testing.assert_array_equal(first.target.whitening.scale_tril, second.target.whitening.scale_tril)
    assert first.numbers == second.numbers


def test_a_flat_density_is_improper() -> None:
    with pytest.raises(ImproperDensityError, match=r"particles that kept spreading, .* Fix: add a proper prior"):
        start(lambda z: 0.0 * tf.reduce_sum(z, -1), 2)


def test_a_density_that_is_flat_in_one_direction_is_improper() -> None:
    with pytest.raises(ImproperDensityError, match="in coordinate 1"):
        start(lambda z: -0.5 * z[:, 0] ** 2 + 0.0 * z[:, 1], 2)


@pytest.mark.parametrize("nowhere", [-np.inf, np.nan])
def test_no_point_with_a_finite_density(nowhere: float) -> None:
    with pytest.raises(TargetValueError, match=r"got none at 64 points\. Fix: pass start= with a point where"):
        start(lambda z: tf.where(tf.norm(z - 1e4, axis=-1) < 1.0, tf.reduce_sum(z, -1), constant(nowhere, z)), 2)


def test_bad_points_are_skipped() -> None:
    def log_prob(z: Tensor) -> Tensor:
        return tf.where(z[:, 0] > -1.0, -0.5 * tf.reduce_sum(z**2, -1), constant(-np.inf, z))

    points = dispersed_points(2, 64, seed=0)
    found = start(log_prob, 2, points=points[points[:, 0].argsort()])  # the first points are all bad
    inside = found.target.whitening.to_z(tf.constant([[0.0, 0.0]])).numpy()
    assert np.isfinite(found.target.log_prob(tf.zeros([1, 1, 2]))).all() and inside[0, 0] > -1.0
