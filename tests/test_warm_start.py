"""The warm start: scales of any size, every reachable mode, exact Laplace approximations, and named refusals."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from densities import COVARIANCES, LogProb, constant, gaussian, two_modes

from neural_vb import warm_start as module
from neural_vb._types import Array, Tensor
from neural_vb.errors import ImproperDensityError, TargetValueError
from neural_vb.optima import Laplace, dispersed_points
from neural_vb.probing import Probe
from neural_vb.targets import LogProbTarget
from neural_vb.warm_start import WarmStart

NUM_PARTICLES = 1_024
# Particles are resampled and correlated: count a quarter of them. Four standard errors of a log scale and of a mean.
LOG_SCALE_TOLERANCE = 4.0 / np.sqrt(2.0 * NUM_PARTICLES / 4)
MEAN_TOLERANCE = 4.0 / np.sqrt(NUM_PARTICLES / 4)


@pytest.fixture(autouse=True)
def fewer_particles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NUM_PARTICLES", NUM_PARTICLES)


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


def test_a_gaussian_that_is_met_needs_no_particles_and_has_a_bound_on_scores() -> None:
    reached: list[str] = []
    mean, covariance = np.array([3.0, -1.0]), np.array([[1.0, 0.5], [0.5, 2.0]])
    found = start(gaussian(mean, covariance), 2, tolerance=0.015, report=reached.append)
    assert found.met is not None and reached == ["optimise"]
    check_moments(found, mean, covariance)
    assert np.sqrt(2.0) < found.target.max_score < 12.0


def test_a_spike_is_no_mode() -> None:
    def optimum(log_evidence: float) -> Laplace:
        return Laplace(np.zeros(2), np.eye(2), log_evidence)

    evidences = ([], [-66.4], [-66.4, -114.3], [-66.4, -70.0], [-66.4, -70.0, -114.3])
    for particles, counts in ((-np.inf, [0, 1, 1, 2, 2]), (-30.0, [0] * 5), (-49.0, [0, 1, 1, 1, 1])):
        assert [module._probable([optimum(one) for one in many], particles) for many in evidences] == counts
