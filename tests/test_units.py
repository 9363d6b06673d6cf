"""A fit does not depend on the units of its parameters, and the smallest problems are fitted like any other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import neural_vb as nvb

tfd = tfp.distributions

S = 20_000
ERROR = 4.5 / np.sqrt(S)  # of a mean, in sds
BIAS = 0.03  # sds; a posterior that is met within .015 nats may be that far off


def skew(z: tf.Tensor, unit: float) -> tf.Tensor:
    """A correlated logistic regression with two data and a Gaussian prior, in units of ``unit``."""
    u = z / tf.cast(unit, z.dtype)
    return -0.5 * tf.reduce_sum(u**2, -1) + tf.math.log_sigmoid(u[:, 0] + u[:, 1]) + tf.math.log_sigmoid(u[:, 0])


def fit(log_prob: Callable, size: int) -> np.ndarray:
    posterior = nvb.fit(log_prob, event_shape=[size], progress=False)
    assert posterior.status.reason == "met"
    draws = posterior.sample(S)
    assert np.isfinite(draws).all()
    return draws.astype(np.float64)


@pytest.fixture(scope="module")
def one_unit() -> np.ndarray:
    return fit(lambda z: skew(z, 1.0), 2)


@pytest.mark.parametrize("unit", [1e-6, 1e8])
def test_draws_follow_the_unit(unit: float, one_unit: np.ndarray) -> None:
    check_unit(unit, one_unit)


@pytest.mark.slow
@pytest.mark.parametrize("unit", [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7])
def test_draws_follow_every_unit(unit: float, one_unit: np.ndarray) -> None:
    check_unit(unit, one_unit)


def check_unit(unit: float, one_unit: np.ndarray) -> None:
    draws = fit(lambda z: skew(z, unit), 2) / unit
    sd = one_unit.std(0)
    np.testing.assert_allclose((draws.mean(0) - one_unit.mean(0)) / sd, 0.0, atol=ERROR + BIAS)
    np.testing.assert_allclose(draws.std(0) / sd, 1.0, atol=ERROR + BIAS)
    np.testing.assert_allclose(np.corrcoef(draws.T), np.corrcoef(one_unit.T), atol=ERROR + BIAS)


def test_mixed_units() -> None:
    """Sds of 1e-6 and 1e8 side by side."""
    scale = np.array([1e-6, 1e8])
    draws = fit(lambda z: -0.5 * tf.reduce_sum((z / tf.constant(scale, z.dtype) - 1.0) ** 2, -1), 2) / scale
    np.testing.assert_allclose(draws.mean(0), 1.0, atol=ERROR + BIAS)
    np.testing.assert_allclose(draws.std(0), 1.0, atol=ERROR + BIAS)


def test_a_correlation_of_999_thousandths() -> None:
    precision = np.linalg.inv([[1.0, 0.999], [0.999, 1.0]])
    draws = fit(lambda z: -0.5 * tf.einsum("ni,ij,nj->n", z, tf.constant(precision, z.dtype), z), 2)
    np.testing.assert_allclose(draws.mean(0), 0.0, atol=ERROR + BIAS)
    np.testing.assert_allclose(draws.std(0), 1.0, atol=ERROR + BIAS)
    across = (draws[:, 0] - draws[:, 1]).std() / np.sqrt(2.0 * 0.001)
    assert abs(across - 1.0) < ERROR + BIAS


def test_one_dimension() -> None:
    draws = fit(lambda z: -0.5 * ((z[:, 0] - 2.0) / 3.0) ** 2, 1)
    assert draws.shape == (S, 1)
    assert abs(draws.mean() - 2.0) < 3.0 * (ERROR + BIAS)
    assert abs(draws.std() / 3.0 - 1.0) < ERROR + BIAS


def normal_mean(num_data: int) -> nvb.Posterior:
    y = np.full(num_data, 3.0, np.float32)
    model = {"mu": tfd.Normal(0.0, 2.0), "y": lambda mu: tfd.Normal(mu, tf.ones(num_data))}
    return nvb.fit(tfd.JointDistributionNamedAutoBatched(model), {"y": y}, progress=False)


@pytest.mark.parametrize("num_data", [0, 1])
def test_no_data_and_one_datum(num_data: int) -> None:
    """mu ~ N(0, 2^2) with n data y ~ N(mu, 1), all 3: precision 1/4 + n."""
    draws = normal_mean(num_data).sample(S)["mu"]
    variance = 1.0 / (0.25 + num_data)
    assert abs(draws.mean() - 3.0 * num_data * variance) < np.sqrt(variance) * (ERROR + BIAS)
    assert abs(draws.std() / np.sqrt(variance) - 1.0) < ERROR + BIAS
