"""``fit`` from a point, from draws and from an earlier posterior, and an error for every bad start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from quick_fits import TINY, OneWay, check_normal, normal, quick

import neural_vb as nvb
from neural_vb import starting
from neural_vb.errors import ConfigurationError, EventShapeError, StartError, TargetValueError, UnsupportedError
from neural_vb.targets import LogProbTarget

tfb = tfp.bijectors


@pytest.fixture(scope="module")
def quick_posterior() -> nvb.Posterior:
    return quick(normal, event_shape=[2])


def test_a_point_may_be_the_mode_itself() -> None:
    posterior = quick(normal, event_shape=[2], start=[1.0, -1.0])
    check_normal(posterior.sample(4_000))
    assert posterior.history.warm_start["optima"] == 1.0


def test_a_point_decides_where_the_log_density_is_looked_at() -> None:
    def walled(z: tf.Tensor) -> tf.Tensor:  # finite only within 3 of (50, 50), far from the origin
        return tf.where(tf.norm(z - 50.0, axis=-1) < 3.0, -8.0 * tf.reduce_sum((z - 50.0) ** 2, -1), -np.inf)

    with pytest.raises(TargetValueError, match=r"or pass start=\.\.\. at a point where log p is finite"):
        quick(walled, event_shape=[2])
    posterior = quick(walled, event_shape=[2], start=[50.1, 50.0])
    again = quick(walled, event_shape=[2], start=posterior)
    for draws in (posterior.sample(1_000), again.sample(1_000)):
        np.testing.assert_allclose(draws.mean(0), 50.0, atol=0.05)
        np.testing.assert_allclose(draws.std(0), 0.25, rtol=0.15)


def test_draws_give_the_scales() -> None:
    draws = np.random.default_rng(0).standard_normal((200, 2)) * [0.6, 1.5] + [0.8, -1.2]
    posterior = quick(normal, event_shape=[2], start=draws.astype(np.float32))
    check_normal(posterior.sample(4_000))
    assert posterior.history.warm_start["optima"] == 0.0


def test_named_points_and_draws_are_on_the_constrained_scale(named_arguments: dict, named_posterior: Any) -> None:
    point = quick(**named_arguments, start={"mu": 1.0, "tau": 1.5})
    draws = quick(**named_arguments, start=named_posterior.sample(100))  # its derived quantities are no hindrance
    for posterior in (point, draws):
        tau = posterior.sample(4_000)["tau"]
        assert abs(tau.mean() - 1.5) < 0.15


def test_an_earlier_posterior_is_trained_on_and_takes_new_data() -> None:
    def about(centre: float) -> Callable:
        return lambda z: -0.5 * tf.reduce_sum((z - centre) ** 2, -1)

    first = quick(about(0.0), event_shape=[2])
    unmoved = quick(about(0.0), event_shape=[2], start=first, callbacks=[lambda step, metrics: True])
    assert unmoved.parts == first.parts
    np.testing.assert_allclose(unmoved.sample(50), first.sample(50), atol=0.1)
    assert unmoved.history.warm_start == first.history.warm_start
    moved = replace(TINY, max_steps=500, decay_steps=100, window=100, sampler_rate=3e-3, critic_rate=3e-3)
    second = quick(about(0.7), event_shape=[2], start=first, config=moved)
    np.testing.assert_allclose(second.sample(4_000).mean(0), 0.7, atol=0.15)


@pytest.mark.parametrize(
    ("start", "options", "kind", "message"),
    [
        ([0.0, 0.0, 0.0], {}, EventShapeError, r"got .*\[3\]"),
        (
            np.zeros([3, 2]),
            {},
            StartError,
            r"at least 6 draws of 2 dimensions; got unconstrained shape \[3, 2\]\. Fix: pass",
        ),
        (np.zeros([4, 5, 2]), {}, StartError, r"got unconstrained shape \[4, 5, 2\]"),
        (
            [np.nan, 0.0],
            {},
            StartError,
            "Expected a start without missing values; got 1 NaN, in z",
        ),
        (
            [-1.0, 2.0],
            {"bijector": tfb.Exp()},
            StartError,
            "Fix: pass finite numbers inside the support, off its boundary",
        ),
    ],
)
def test_a_bad_start_is_named(start: Any, options: dict, kind: type, message: str) -> None:
    with pytest.raises(kind, match=message):
        quick(lambda z: normal(z), event_shape=[2], start=start, **options)


def test_rounded_weights_are_a_start_and_half_a_simplex_is_none() -> None:
    target = LogProbTarget(
        lambda w, x: tf.reduce_sum(tf.math.log(w), -1) - x**2,
        event_shape={"w": [3], "x": []},
        bijector={"w": tfb.SoftmaxCentered()},
    )
    starting.find(target, {"w": [0.33, 0.33, 0.33], "x": 0.0}, seed=0)
    draws = {"w": np.random.default_rng(0).dirichlet([2.0] * 3, 100), "x": np.linspace(-1.0, 1.0, 100)}
    assert starting.find(target, draws, seed=0).moments is not None
    with pytest.raises(StartError, match=r"on the support of w; got numbers that the bijector changes, by 0\.5\. Fix"):
        starting.find(target, {"w": [0.5, 0.0001, 0.0001], "x": 0.0}, seed=0)
    draws["w"][:30] /= 2.0
    with pytest.raises(StartError, match=r"in 30 of 100 draws\. Fix: check that they have the support's sums"):
        starting.find(target, draws, seed=0)


def test_draws_on_the_boundary_are_left_out_of_a_start() -> None:
    rng = np.random.default_rng(0)
    draws = rng.exponential(size=(100, 2))
    draws[:3, 0] = 0.0
    posterior = quick(
        lambda x: -tf.reduce_sum(x, -1), event_shape=[2], bijector=tfp.bijectors.Exp(), start=draws.astype("float32")
    )
    np.testing.assert_allclose(posterior.whitened.whitening.shift, [-0.577, -0.577], atol=0.3)  # E log x = -Euler
    assert posterior.history.warm_start["optima"] == 0.0


def test_an_earlier_posterior_must_fit(quick_posterior: nvb.Posterior) -> None:
    with pytest.raises(
        StartError, match=r"an earlier posterior of 3 unconstrained dimensions; got one of 2\. Fix: pass a"
    ):
        quick(lambda z: -tf.reduce_sum(z**2, -1), event_shape=[3], start=quick_posterior)
    message = (
        r"no `critic` with an earlier posterior as start, .*got critic=MLPCritic\(\.\.\.\)\. Fix: leave `critic` out"
    )
    with pytest.raises(ConfigurationError, match=message):
        quick(normal, event_shape=[2], start=quick_posterior, critic=nvb.critics.MLPCritic())


def test_a_start_needs_an_inverse() -> None:
    with pytest.raises(
        UnsupportedError, match=r"with `unconstrain` to take start=; got OneWay\. Fix: leave start= out"
    ):
        quick(OneWay(), start=[0.0, 0.0])
