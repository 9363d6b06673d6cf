"""Default settings on posteriors that are known exactly, from target to draws. The slow ones: ``pytest -m slow``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

import neural_vb as nvb
from neural_vb import _eight_schools as schools
from neural_vb._demo_targets import DEMO_TARGETS

tfb, tfd = tfp.bijectors, tfp.distributions

NUM_DRAWS = 20_000  # the error of a mean is .007 sd, of an sd .5 %


def fit(target: Any, **options: Any) -> nvb.Posterior:
    return nvb.fit(target, **({"progress": False, "seed": 0} | options))


def check(sample: np.ndarray, mean: Any, sd: Any, *, mean_error: float = 0.05, sd_error: float = 0.05) -> None:
    """Moments [...] of draws [S, ...], errors in units of the true sd."""
    sample = sample.astype(np.float64)
    np.testing.assert_allclose((sample.mean(0) - np.asarray(mean)) / np.asarray(sd), 0.0, atol=mean_error)
    np.testing.assert_allclose(sample.std(0) / np.asarray(sd), 1.0, atol=sd_error)


def test_one_dimension_on_the_half_line() -> None:
    """rate ~ Gamma(3, 2)."""
    posterior = fit(
        lambda rate: 2.0 * tf.math.log(rate) - 2.0 * rate, event_shape={"rate": []}, bijector={"rate": tfb.Exp()}
    )
    rate = posterior.sample(NUM_DRAWS, seed=1)["rate"]
    exact = scipy.stats.gamma(3.0, scale=0.5)
    logs = scipy.stats.loggamma(3.0, -math.log(2.0))
    check(np.log(rate), logs.mean(), logs.std(), mean_error=0.03, sd_error=0.03)
    # exp makes much of the right tail, in which a mixture within .02 nats may have too much.
    check(rate, exact.mean(), exact.std(), mean_error=0.03, sd_error=0.05)
    assert scipy.stats.kstest(rate, exact.cdf).statistic < 0.03
    assert abs(posterior.elbo.value - math.log(2.0 / 2.0**3)) < 0.02


@pytest.mark.slow
def test_eight_schools_against_reference_draws() -> None:
    demo = DEMO_TARGETS["eight_schools"]()
    posterior = fit(demo.target, data=demo.data, derived=demo.derived)
    draws = posterior.sample(NUM_DRAWS, seed=1)
    # The reference has 10,000 draws of its own: an error of .01 sd in a mean, .7 % in an sd.
    z = np.concatenate([draws["theta_trans"], draws["mu"][:, None], np.log(draws["tau"])[:, None]], 1)
    check(z, schools.UNCONSTRAINED_MEAN, schools.UNCONSTRAINED_SD, mean_error=0.06, sd_error=0.06)
    check(draws["theta"], schools.THETA_MEAN, schools.THETA_SD, mean_error=0.06, sd_error=0.08)
    assert posterior.status.reason == "met"


@pytest.mark.slow
def test_linear_regression_has_its_conjugate_posterior() -> None:
    rng = np.random.default_rng(3)
    design = rng.standard_normal((30, 4)) @ (np.eye(4) + 0.6)
    y = design @ [1.0, -2.0, 0.5, 0.0] + 0.7 * rng.standard_normal(30)
    x, data = design.astype(np.float32), y.astype(np.float32)

    @tfd.JointDistributionCoroutineAutoBatched
    def regression() -> Any:
        weights = yield tfd.Sample(tfd.Normal(0.0, 2.0), 4, name="weights")
        yield tfd.Normal(tf.linalg.matvec(x, weights), 0.7, name="y")

    posterior = fit(regression, data={"y": data})
    covariance = np.linalg.inv(design.T @ design / 0.49 + np.eye(4) / 4.0)
    weights = posterior.sample(NUM_DRAWS, seed=1)["weights"]
    check(weights, covariance @ design.T @ y / 0.49, np.sqrt(np.diag(covariance)))
    scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    np.testing.assert_allclose(np.cov(weights.T) / scale, covariance / scale, atol=0.08)
    marginal = scipy.stats.multivariate_normal(np.zeros(30), 4.0 * design @ design.T + 0.49 * np.eye(30))
    assert abs(posterior.elbo.value - marginal.logpdf(y)) < 0.05


@pytest.mark.slow
def test_two_modes_keep_their_weights() -> None:
    """.3 N((-3, 0), I) + .7 N((3, 1), .5^2 I)."""

    def log_prob(z: tf.Tensor) -> tf.Tensor:
        left = math.log(0.3) - 0.5 * tf.reduce_sum((z - [-3.0, 0.0]) ** 2, -1)
        right = math.log(0.7 / 0.25) - 2.0 * tf.reduce_sum((z - [3.0, 1.0]) ** 2, -1)
        return tf.reduce_logsumexp(tf.stack([left, right]), 0)

    posterior = fit(log_prob, event_shape=[2])
    z = posterior.sample(NUM_DRAWS, seed=1)
    right = z[:, 0] > 0.5
    assert abs(right.mean() - 0.7) < 0.04
    check(z[right], [3.0, 1.0], 0.5, mean_error=0.1, sd_error=0.1)
    check(z[~right], [-3.0, 0.0], 1.0, mean_error=0.1, sd_error=0.1)
    assert abs(posterior.elbo.value - math.log(2.0 * math.pi)) < 0.05


@pytest.mark.slow
def test_simplex_order_and_correlations() -> None:
    """w ~ Dirichlet(7, 3, 5); three sorted normal numbers; a correlation matrix from LKJ(2)."""

    def log_prob(w: tf.Tensor, order: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
        value = tfd.Dirichlet([7.0, 3.0, 5.0]).log_prob(w) + tfd.CholeskyLKJ(3, 2.0).log_prob(factor)
        return value + tf.reduce_sum(tfd.Normal(0.0, 1.0).log_prob(order), -1)

    posterior = nvb.fit(
        log_prob,
        progress=False,
        event_shape={"w": [3], "order": [3], "factor": [3, 3]},
        bijector={"w": tfb.SoftmaxCentered(), "order": tfb.Ascending(), "factor": tfb.CorrelationCholesky()},
    )
    draws = posterior.sample(NUM_DRAWS, seed=1)
    dirichlet = scipy.stats.dirichlet([7.0, 3.0, 5.0])
    np.testing.assert_allclose(draws["w"].sum(-1), 1.0, atol=1e-5)
    check(draws["w"], dirichlet.mean(), np.sqrt(dirichlet.var()))
    assert (np.diff(draws["order"], axis=-1) > 0).all()
    outer = 3.0 / (2.0 * math.sqrt(math.pi))  # mean of the largest of three; variances from tables of order statistics
    check(draws["order"], [-outer, 0.0, outer], np.sqrt([0.559467, 0.448671, 0.559467]))
    correlations = np.einsum("sij,skj->sik", draws["factor"], draws["factor"])[:, [1, 2, 2], [0, 0, 1]]
    check(correlations, 0.0, math.sqrt(1.0 / 6.0))  # each is 2 Beta(2.5, 2.5) - 1
    assert abs(posterior.elbo.value + math.log(6.0)) < 0.1  # one order of six


@pytest.mark.slow
def test_uncentred_regressors_are_evaluated_in_float64() -> None:
    """A trend over calendar years: intercept and slope have correlation -.99999, log p is a small difference."""
    rng = np.random.default_rng(0)
    year = 1990.0 + np.arange(31.0)
    y = 0.03 * (year - 2005.0) + 14.0 + 0.1 * rng.standard_normal(31)

    def log_prob(level: tf.Tensor, trend: tf.Tensor) -> tf.Tensor:
        x, data = tf.cast(year, level.dtype), tf.cast(y, level.dtype)
        residual = (data - level[:, None] - trend[:, None] * x) / 0.1
        return -0.5 * tf.reduce_sum(residual**2, -1) - 0.5 * (level / 100.0) ** 2 - 0.5 * trend**2

    posterior = fit(log_prob, event_shape={"level": [], "trend": []})
    assert posterior.target.dtype == tf.float64
    assert any("evaluated in float64" in note for note in posterior.notes)
    draws = posterior.sample(NUM_DRAWS, seed=1)
    assert draws["trend"].dtype == np.float64
    design = np.stack([np.ones(31), year], -1)
    covariance = np.linalg.inv(design.T @ design / 0.01 + np.diag([1e-4, 1.0]))
    mean, sd = covariance @ design.T @ y / 0.01, np.sqrt(np.diag(covariance))
    check(draws["level"], mean[0], sd[0])
    check(draws["trend"], mean[1], sd[1])
    fitted = draws["level"] + 2005.0 * draws["trend"]  # where the data are, far better known than either
    at = np.array([1.0, 2005.0])
    check(fitted, at @ mean, math.sqrt(at @ covariance @ at), mean_error=0.1, sd_error=0.1)


@pytest.mark.slow
def test_scales_from_a_millionth_to_a_hundred_million() -> None:
    mean, sd = np.array([2e-6, 3e8]), np.array([1e-6, 1e8])

    def log_prob(z: tf.Tensor) -> tf.Tensor:
        return -0.5 * tf.reduce_sum(((z - tf.cast(mean, z.dtype)) / tf.cast(sd, z.dtype)) ** 2, -1)

    for start in (None, [0.0, 1e8]):  # from the origin such a density rises for a long while
        posterior = fit(log_prob, event_shape=[2], start=start)
        check(posterior.sample(NUM_DRAWS, seed=1), mean, sd)
        assert abs(posterior.elbo.value - math.log(2.0 * math.pi * 1e-6 * 1e8)) < 0.05


@pytest.mark.slow
def test_enzyme_kinetics_against_quadrature() -> None:
    """v = V x / (K + x) measured far below saturation: V and K are a long, curved ridge."""
    x = np.array([0.2, 0.5, 1.0, 1.5])
    v = np.array([0.115, 0.234, 0.375, 0.466])

    def log_joint(log_v: Any, log_k: Any, exp: Any, total: Any) -> Any:
        rate = exp(log_v)[..., None] * x.astype(np.float32) / (exp(log_k)[..., None] + x.astype(np.float32))
        residual = (v.astype(np.float32) - rate) / 0.03
        return -0.5 * total(residual**2) - 0.5 * (log_v**2 + log_k**2)

    def log_prob(maximum: tf.Tensor, constant: tf.Tensor) -> tf.Tensor:
        log_v, log_k = tf.math.log(maximum), tf.math.log(constant)
        # Normal priors on the logarithms, as densities of maximum and constant.
        return log_joint(log_v, log_k, tf.exp, lambda r: tf.reduce_sum(r, -1)) - log_v - log_k

    posterior = fit(
        log_prob,
        event_shape={"maximum": [], "constant": []},
        bijector={"maximum": tfb.Exp(), "constant": tfb.Softplus()},
    )
    draws = posterior.sample(NUM_DRAWS, seed=1)

    log_v, log_k = np.meshgrid(np.linspace(-2.5, 4.0, 1301), np.linspace(-3.0, 5.0, 1601), indexing="ij")
    log_p = log_joint(log_v, log_k, np.exp, lambda r: r.sum(-1))
    p = np.exp(log_p - log_p.max())
    log_z = log_p.max() + math.log(p.sum() * 0.005**2)
    p /= p.sum()
    assert max(p[0].sum(), p[-1].sum(), p[:, 0].sum(), p[:, -1].sum()) < 1e-6

    for name, grid in (("maximum", log_v), ("constant", log_k)):
        mean = (p * grid).sum()
        check(np.log(draws[name]), mean, math.sqrt((p * (grid - mean) ** 2).sum()), sd_error=0.08)
        edges = np.quantile(np.log(draws[name]), [0.05, 0.5, 0.95])
        shares = [(p * (grid < edge)).sum() for edge in edges]
        np.testing.assert_allclose(shares, [0.05, 0.5, 0.95], atol=0.02)
    assert abs(posterior.elbo.value - log_z) < 0.05
