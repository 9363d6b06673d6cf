"""Warps: inverse and Jacobian, and what is found in draws and densities of known skewness and tails."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from neural_vb import warping
from neural_vb._types import Array
from neural_vb.warping import Warp

SIZE = 4_096


def a_warp(event_size: int, seed: int) -> Warp:
    return Warp(*np.random.default_rng(seed).normal(scale=0.6, size=(5, event_size)))


def log_gamma(shape: float, size: int, seed: int) -> Array:
    """Logarithms of gamma variables: an exponential tail on the left, a double exponential one on the right."""
    return np.log(np.random.default_rng(seed).gamma(shape, size=size))


def test_inverse_and_jacobian() -> None:
    y = np.random.default_rng(2).normal(scale=3.0, size=(50, 4))
    warp = a_warp(4, 0)
    x, log_det = warp.forward(tf.constant(y))
    back, again = warp.inverse(x.numpy())
    np.testing.assert_allclose(back, y, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(again, log_det, atol=1e-7)
    step = 1e-6
    slopes = (warp.forward(tf.constant(y + step))[0] - warp.forward(tf.constant(y - step))[0]).numpy() / (2.0 * step)
    np.testing.assert_allclose(np.log(slopes).sum(1), log_det, atol=1e-5)


def test_gradients_are_the_slopes_at_zero_and_far_out_too() -> None:
    y = tf.constant([[0.0], [-0.0], [1e-300], [-1e-12], [1e-8], [-1.0], [3.0], [-1e4], [1e8]], tf.float64)
    for warp in (warping.identity(1), a_warp(1, 3)):
        with tf.GradientTape() as tape:
            tape.watch(y)
            x, log_det = warp.forward(y)
        np.testing.assert_allclose(np.log(tape.gradient(x, y)[:, 0]), log_det, rtol=1e-9, atol=1e-9)


def test_the_identity() -> None:
    y = np.random.default_rng(0).normal(size=(5, 3))
    x, log_det = warping.identity(3).forward(tf.constant(y))
    np.testing.assert_allclose(x, y, atol=1e-12)
    np.testing.assert_allclose(log_det, 0.0, atol=1e-12)


@pytest.mark.parametrize(("left", "right"), [(0.0, 0.0), (0.6, -0.5)])
def test_tails_go_with_powers(left: float, right: float) -> None:
    warp = Warp(*np.array([[0.3], [0.2], [-0.4], [left], [right]]))
    far = np.array([[1e6], [1e7]])
    for power, sign in ((right, 1.0), (left, -1.0)):
        x = np.abs(warp.forward(tf.constant(sign * far))[0].numpy()[:, 0])
        assert np.log10(x[1] / x[0]) == pytest.approx(np.exp(power), rel=1e-2)


def test_the_gradient_of_the_likelihood() -> None:
    x, weights = log_gamma(0.7, 200, 0), np.full(200, 1.0 / 200)
    numbers = np.array([0.2, -0.1, 0.3, 0.4, -0.2])
    _, gradient = warping._cost(numbers, x, weights)
    for i, step in enumerate(1e-6 * np.eye(5)):
        slope = (warping._cost(numbers + step, x, weights)[0] - warping._cost(numbers - step, x, weights)[0]) / 2e-6
        assert gradient[i] == pytest.approx(slope, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_gaussian_draws_keep_their_shape(seed: int) -> None:
    x = 3.0 + 2.0 * np.random.default_rng(seed).normal(size=(SIZE, 20))
    warp, shapes = warping.fit(x)
    assert shapes == 0
    np.testing.assert_allclose(warp.shift, x.mean(0))
    np.testing.assert_allclose(np.exp(warp.log_scale), x.std(0))


@pytest.mark.parametrize("shape", [0.5, 2.0])
@pytest.mark.parametrize("units", [1e-6, 1e6])
def test_a_log_scale_becomes_gaussian(shape: float, units: float) -> None:
    warp, shapes = warping.fit(units * log_gamma(shape, SIZE, 1)[:, np.newaxis] + 5.0 * units)
    assert shapes == warping.SHAPES
    fresh = warp.inverse(units * log_gamma(shape, SIZE, 2)[:, np.newaxis] + 5.0 * units)[0][:, 0]
    noise = SIZE**-0.5
    assert abs(fresh.mean()) < 6.0 * noise
    assert abs(fresh.std() - 1.0) < 6.0 * noise
    assert abs(stats.skew(fresh)) < 6.0 * 6.0**0.5 * noise
    assert abs(stats.kurtosis(fresh)) < 6.0 * 24.0**0.5 * noise


def test_only_what_is_skewed_is_warped() -> None:
    x = np.random.default_rng(0).normal(size=(SIZE, 3))
    x[:, 1] = log_gamma(0.5, SIZE, 0)
    warp, shapes = warping.fit(x)
    assert shapes == warping.SHAPES
    assert [bool(part) for part in warp.left] == [False, True, False]


@pytest.mark.parametrize("shape", [0.5, 1.0, 4.0])
def test_a_known_density(shape: float) -> None:
    """Moments of the warped normal are those of the density: Kullback-Leibler divergence .003 nats at most."""
    x = np.linspace(-40.0, 6.0, 8_001)
    log_density = stats.loggamma(shape).logpdf(x)
    warp = warping.of_density(x, 17.0 + log_density)
    y, log_slope = warp.inverse(x[:, np.newaxis])
    log_warped = stats.norm.logpdf(y[:, 0]) - log_slope
    weights = np.exp(log_density) * (x[1] - x[0])
    assert 0.0 <= weights @ (log_density - log_warped) < 0.003
    warped = np.exp(log_warped) * (x[1] - x[0])
    mean, sd = weights @ x, (weights @ x**2 - (weights @ x) ** 2) ** 0.5
    assert warped @ x == pytest.approx(mean, abs=0.02 * sd)
    assert (warped @ x**2 - (warped @ x) ** 2) ** 0.5 == pytest.approx(sd, rel=0.03)
