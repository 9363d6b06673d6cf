"""The slow path: densities of NumPy give the posterior that the same formula in TensorFlow gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import neural_vb as nvb
from neural_vb.errors import (
    ConfigurationError,
    DtypeError,
    GradientError,
    NeuralVBError,
    TargetShapeError,
    TargetValueError,
    UnsupportedError,
)
from neural_vb.optima import dispersed_points
from neural_vb.preflight import examine
from neural_vb.targets import LogProbTarget

tfb = tfp.bijectors

MEAN = np.array([1.0, -2.0, 0.5])
COVARIANCE = np.array([[1.0, 0.8, 0.0], [0.8, 2.0, -0.3], [0.0, -0.3, 0.5]])
PRECISION = np.linalg.inv(COVARIANCE)


def one(z: np.ndarray) -> tuple[float, np.ndarray]:
    assert z.shape == (3,) and z.dtype == np.float64
    score = -PRECISION @ (z - MEAN)
    return 0.5 * float((z - MEAN) @ score), score


def many(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    assert z.ndim == 2
    score = -(z - MEAN) @ PRECISION
    return 0.5 * ((z - MEAN) * score).sum(-1), score


@pytest.mark.parametrize(("function", "vectorized"), [(one, False), (many, True)])
@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_values_and_gradients_are_those_of_the_function(function: Callable, vectorized: bool, dtype: tf.DType) -> None:
    z = tf.constant(np.random.default_rng(0).standard_normal((5, 3)), dtype)
    density = nvb.numpy_log_prob(function, vectorized=vectorized)

    @tf.function
    def value_and_gradient(z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(z)
            value = density(z)
        return value, tape.gradient(value, z, tf.range(5, dtype=dtype))

    value, gradient = value_and_gradient(z)
    assert value.dtype == gradient.dtype == dtype and value.shape == [5]
    expected, score = many(z.numpy().astype(np.float64))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, score * np.arange(5.0)[:, None], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("vectorized", [False, True])
def test_a_function_may_use_its_memory_again(vectorized: bool) -> None:
    """It writes into its argument, and returns the same array each time."""
    kept: dict[tuple[int, ...], np.ndarray] = {}

    def function(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        score = kept.setdefault(z.shape, np.empty_like(z))
        z -= MEAN
        np.matmul(z, -PRECISION, out=score)
        return 0.5 * (z * score).sum(-1), score

    z = np.random.default_rng(0).standard_normal((5, 3))
    points = tf.constant(z)
    density = nvb.numpy_log_prob(function, vectorized=vectorized)
    with tf.GradientTape() as tape:
        tape.watch(points)
        value = density(points)
    np.testing.assert_allclose(value, many(z)[0])
    np.testing.assert_allclose(tape.gradient(value, points), many(z)[1])
    np.testing.assert_array_equal(points, z)


def test_the_posterior_its_file_and_its_training(tmp_path: Path) -> None:
    density = nvb.numpy_log_prob(many, vectorized=True)
    posterior = nvb.fit(density, event_shape=[3], progress=False)
    assert posterior.versions["jit_compile"] == "False"
    draws = posterior.sample(20_000)
    np.testing.assert_allclose(draws.mean(0), MEAN, atol=4.5 * np.sqrt(2.0 / 20_000) + 0.02)
    np.testing.assert_allclose(np.cov(draws.T), COVARIANCE, atol=4.5 * 2.0 * np.sqrt(2.0 / 20_000) + 0.04)
    posterior.save(tmp_path / "slow.nvb")
    again = nvb.load(tmp_path / "slow.nvb", nvb.numpy_log_prob(one), event_shape=[3])
    np.testing.assert_array_equal(again.sample(10), posterior.sample(10))
    short = nvb.TrainingConfig(max_steps=20, min_steps=0, decay_steps=20, window=20, batch_size=16)
    trained = nvb.fit(density, event_shape=[3], start=posterior, config=short, progress=False)
    assert trained.status.reason == "step_limit" and trained.versions["jit_compile"] == "False"


def test_bijectors_work_as_they_do_for_other_callables() -> None:
    """z ~ Gamma(3, 2) through exp: E z = 1.5."""
    density = nvb.numpy_log_prob(lambda z: (2.0 * np.log(z[0]) - 2.0 * z[0], 2.0 / z - 2.0))
    posterior = nvb.fit(density, event_shape=[1], bijector=tfb.Exp(), progress=False)
    assert abs(posterior.sample(20_000).mean() - 1.5) < 4.5 * np.sqrt(0.75 / 20_000) + 0.03


def scaled(value: Callable, gradient: Callable) -> Callable:
    return lambda z: (value(one(z)[0]), gradient(one(z)[1]))


BAD: dict[str, tuple[Callable, dict[str, Any], type[NeuralVBError], str]] = {
    "sign": (scaled(float, np.negative), {}, GradientError, r"got .* for z\[0\], where log p changes by"),
    "order": (scaled(float, lambda g: g[::-1]), {}, GradientError, "same coordinates and order"),
    "factor": (scaled(float, lambda g: 1.1 * g), {}, GradientError, "agrees with differences of log p"),
    "one coordinate": (scaled(float, lambda g: g * [1.0, 1.0, 0.0]), {}, GradientError, r"got -?0 for z\[2\]"),
    "shape of the gradient": (scaled(float, lambda g: g[:2]), {}, GradientError, r"shape \[3\].*got shape \[2\]"),
    "shape of the value": (scaled(lambda v: [v, v], np.copy), {}, TargetShapeError, r"of shape \[\]; got shape \[2\]"),
    "value alone": (lambda z: one(z)[0], {}, GradientError, r"a pair \(log p, gradient\); got a float"),
    "nothing": (lambda z: None, {}, GradientError, "got None"),
    "no gradient": (lambda z: (one(z)[0], None), {}, GradientError, r"got shape \[\]"),
    "text": (lambda z: ("a", z), {}, DtypeError, "real numbers"),
    "exception": (lambda z: 1 / 0, {}, TargetValueError, "ZeroDivisionError"),
    "NaN": (scaled(lambda v: np.nan, np.copy), {}, TargetValueError, "NaN at 64 of 64"),
    "named parts": (one, {"event_shape": {"a": [3]}}, UnsupportedError, r"the parts \['a'\]"),
    "one point": (one, {"vectorized": False}, ConfigurationError, "leave it out"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_named_before_training(name: str) -> None:
    function, options, error, message = BAD[name]
    with pytest.raises(error, match=message):
        nvb.fit(nvb.numpy_log_prob(function), **({"event_shape": [3], "progress": False} | options))


def test_what_is_raised_while_training_is_the_cause() -> None:
    calls = iter(range(10**6))
    limit = [10**6]

    def late(z: np.ndarray) -> tuple[float, np.ndarray]:
        if next(calls) > limit[0]:
            raise ZeroDivisionError("of the user's")
        return one(z)

    config = nvb.TrainingConfig(max_steps=3, min_steps=0, decay_steps=1, window=1, batch_size=4)

    def arm(step: int, metrics: Mapping[str, float]) -> None:
        limit[0] = 0

    with pytest.raises(TargetValueError, match="value_and_grad to run at every point; got ZeroDivisionError") as found:
        nvb.fit(nvb.numpy_log_prob(late), event_shape=[3], config=config, callbacks=[arm], progress=False)
    assert isinstance(found.value.__cause__, ZeroDivisionError) and "of the user's" in str(found.value.__cause__)


@pytest.mark.parametrize("value", [3.0, dict, None])
def test_only_functions_are_taken(value: object) -> None:
    with pytest.raises(ConfigurationError, match="as a function from a point"):
        nvb.numpy_log_prob(value)
    with pytest.raises(ConfigurationError, match="vectorized as True or False"):
        nvb.numpy_log_prob(one, vectorized="yes")


def test_a_kink_is_no_wrong_gradient() -> None:
    """log p = -|z|_1, whose derivative at a kink no difference gives."""
    target = LogProbTarget(nvb.numpy_log_prob(lambda z: (-np.abs(z).sum(), -np.sign(z))), event_shape=[2])
    assert examine(target, dispersed_points(2, 64, seed=0), seed=0).notes == ()
