"""Targets: callables give the density that the formula gives, and what is no target is named."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats as st
import tensorflow as tf
import tensorflow_probability as tfp
from hierarchical import Y, hierarchical

from neural_vb._types import Target
from neural_vb.errors import (
    BijectorError,
    ConfigurationError,
    DataError,
    DtypeError,
    EventShapeError,
    GradientError,
    TargetShapeError,
    TargetValueError,
    UnsupportedError,
)
from neural_vb.targets import JointTarget, LogProbTarget, as_target

tfb = tfp.bijectors
tfd = tfp.distributions
RNG = np.random.RandomState


def normal(z: tf.Tensor) -> tf.Tensor:
    return -0.5 * tf.reduce_sum(z**2, axis=-1)


# --- callables -------------------------------------------------------------------------------------------------------


def test_change_of_variables_of_a_log_normal() -> None:
    target = LogProbTarget(lambda x: tfd.LogNormal(0.5, 0.7).log_prob(x), event_shape=[], bijector=tfb.Exp())
    z = RNG(0).randn(5, 2, 1).astype("float32")
    np.testing.assert_allclose(target.log_prob(z), st.norm(0.5, 0.7).logpdf(z[..., 0]), rtol=1e-4)


def test_named_parts_arrive_as_keywords_and_jacobians_add() -> None:
    def log_prob(*, tau: tf.Tensor, theta: tf.Tensor) -> tf.Tensor:
        assert tau.shape == (8,)
        assert theta.shape == (8, 2)
        return -tau - tf.reduce_sum(theta**2, axis=-1)

    target = LogProbTarget(log_prob, event_shape={"theta": [2], "tau": []}, bijector={"tau": tfb.Exp()})
    z = RNG(0).randn(4, 2, 3).astype("float32")
    expected = -np.exp(z[..., 2]) - (z[..., :2] ** 2).sum(-1) + z[..., 2]
    np.testing.assert_allclose(target.log_prob(z), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(target.constrain(z)["tau"], np.exp(z[..., 2]), rtol=1e-6)
    np.testing.assert_allclose(target.unconstrain(target.constrain(z)), z, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("compile_it", [False, True])
def test_one_point_at_a_time_equals_the_vectorised_callable(compile_it: bool) -> None:
    scale = np.array([1.0, 3.0], "float32")

    def many(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        return -tf.reduce_sum((a / scale) ** 2, axis=-1) - b**4

    def one(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        assert (a.shape, b.shape) == ((2,), ())
        return -tf.reduce_sum((a / scale) ** 2) - b**4

    shape = {"a": [2], "b": []}
    z = RNG(0).randn(6, 1, 3).astype("float32")
    expected = LogProbTarget(many, event_shape=shape).log_prob(z)
    target = LogProbTarget(one, event_shape=shape, vectorized=False)
    np.testing.assert_allclose(tf.function(target.log_prob, jit_compile=compile_it)(z), expected, rtol=1e-5)


def test_precision_follows_the_target() -> None:
    target = LogProbTarget(normal, event_shape=[2])
    assert target.dtype == tf.float32
    wide = target.with_dtype(tf.float64)
    assert wide.log_prob(np.ones([3, 1, 2])).dtype == tf.float64
    assert wide.event_shape == [2]
    with pytest.raises(DtypeError, match="in float64"):
        LogProbTarget(normal, event_shape=[2], bijector=tfb.Scale(2.0)).with_dtype(tf.float64)


@pytest.mark.parametrize(
    ("log_prob", "message"),
    [
        (lambda z: tf.reduce_sum(z), r"shape \[7\]; got shape \[\] \(a scalar: .*keep the leading one"),
        (lambda z: tf.reduce_sum(z, -1, keepdims=True), r"shape \[7\]; got shape \[7, 1\]\. Fix: drop the last axis"),
        (lambda z: tf.reduce_sum(z, 0), r"shape \[7\]; got shape \[2\]\. Fix: reduce over the event axes only"),
        (lambda z: z, r"got shape \[7, 2\]"),
    ],
)
def test_wrong_shapes_are_named_while_tracing(log_prob: object, message: str) -> None:
    target = LogProbTarget(log_prob, event_shape=[2])
    traced = tf.function(target.log_prob, autograph=False)
    with pytest.raises(TargetShapeError, match=message):
        traced.get_concrete_function(tf.TensorSpec([7, 1, 2], tf.float32))


def test_wrong_shape_of_a_single_point() -> None:
    target = LogProbTarget(lambda z: z, event_shape=[2], vectorized=False)
    with pytest.raises(TargetShapeError, match=r"a scalar log density for one point; got shape \[2\]"):
        target.log_prob(np.zeros([4, 1, 2], "float32"))


@pytest.mark.parametrize(
    ("log_prob", "error", "message"),
    [
        (lambda z: None, TargetValueError, "got None. Fix: return the value"),
        (lambda z: np.sum(z.numpy(), -1), GradientError, "got a numpy.ndarray, through which no gradient flows"),
        (lambda z: tf.cast(normal(z), tf.float64), DtypeError, "to return float32.*got float64.*tf.cast"),
        (lambda z: tf.cast(normal(z), tf.int32), DtypeError, "got int32"),
    ],
)
def test_wrong_kinds_of_result(log_prob: object, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        LogProbTarget(log_prob, event_shape=[2]).log_prob(np.zeros([3, 1, 2], "float32"))


@pytest.mark.parametrize("vectorized", [False, True])
def test_log_prob_of_a_callable_with_an_unknown_number_of_draws(vectorized: bool) -> None:
    target = LogProbTarget(normal, event_shape=[3], bijector=tfb.Exp(), vectorized=vectorized)
    traced = tf.function(target.log_prob, input_signature=[tf.TensorSpec([None, None, 3])], autograph=False)
    z = RNG(0).randn(4, 2, 3).astype("float32")
    expected = -0.5 * (np.exp(z) ** 2).sum(-1) + z.sum(-1)
    np.testing.assert_allclose(traced(z), expected, rtol=1e-4, atol=1e-4)


# --- dispatch --------------------------------------------------------------------------------------------------------


class Mine:
    """A target of a user's own."""

    event_size = 2
    dtype = tf.float32

    def log_prob(self, z: tf.Tensor, x: tf.Tensor | None = None) -> tf.Tensor:
        return normal(z)

    def constrain(self, z: tf.Tensor) -> tf.Tensor:
        return z


def test_dispatch() -> None:
    mine = Mine()
    assert as_target(mine) is mine
    assert isinstance(as_target(normal, event_shape=[2]), LogProbTarget)
    joint = hierarchical("Named", auto=True)
    assert isinstance(as_target(joint, {"y": Y}), JointTarget)
    pinned = joint.experimental_pin(y=Y.astype("float32"))
    assert as_target(pinned).observed_names == ("y",)
    for target in (as_target(normal, event_shape=[2]), as_target(joint, {"y": Y})):
        assert isinstance(target, Target)


@pytest.mark.parametrize(
    ("target", "options", "error", "message"),
    [
        (normal, {}, EventShapeError, "state the shape of one point"),
        (normal, {"event_shape": [2], "data": {"y": Y}}, DataError, "`data` with a callable.*close over its data"),
        (Mine(), {"data": {"y": Y}}, DataError, "`data` with a Target"),
        (Mine(), {"event_shape": [2]}, EventShapeError, "`event_shape` with a Target"),
        (hierarchical("Named", auto=True), {"event_shape": [2]}, EventShapeError, "with a joint distribution"),
        (hierarchical("Named", auto=True), {"bijector": tfb.Exp()}, BijectorError, "with a joint distribution"),
        (hierarchical("Named", auto=True), {"vectorized": False}, ConfigurationError, "with a joint distribution"),
        (tfd.Normal(0.0, 1.0), {}, UnsupportedError, "got a Normal. Fix: pass its log_prob"),
        (Mine, {"event_shape": [2]}, UnsupportedError, "got the class Mine"),
        (3, {"event_shape": [2]}, UnsupportedError, "got an int"),
    ],
)
def test_nonsense_is_named(target: object, options: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        as_target(target, **options)
