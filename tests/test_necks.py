"""Coordinates that shrink with a scale are found from curvatures, far from where any draw has been."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from neural_vb import curving, necks

RATE = 0.4
CENTRE, DRIFT = np.array([1.0, -2.0, 0.5]), np.array([0.3, 0.0, -0.2])
SLOPES = np.array([[0.5, -1.0], [0.0, 0.7], [0.2, 0.2]])
SIZE = 6


def evaluated(log_prob: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    def evaluate(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        points = tf.constant(w)
        with tf.GradientTape() as tape:
            tape.watch(points)
            value = log_prob(points)
        return value.numpy(), tape.gradient(value, points).numpy()

    return evaluate


def hierarchy(side: float) -> Callable[[tf.Tensor], tf.Tensor]:
    """t ~ N(0, 1), a ~ N(0, I_2), b ~ N(centre + drift t + slopes a, e^(-2 side rate t) I_3)."""

    def log_prob(w: tf.Tensor) -> tf.Tensor:
        t, a, b = w[:, :1], w[:, 1:3], w[:, 3:]
        log_scale = -side * RATE * t
        rest = (b - CENTRE - DRIFT * t - a @ SLOPES.T) * tf.exp(-log_scale)
        return -0.5 * tf.reduce_sum(w[:, :3] ** 2, 1) - 0.5 * tf.reduce_sum(rest**2, 1) - 3.0 * log_scale[:, 0]

    return log_prob


def draws(side: float, num: int = 2_048) -> np.ndarray:
    rng = np.random.default_rng(0)
    t, a, noise = rng.standard_normal((num, 1)), rng.standard_normal((num, 2)), rng.standard_normal((num, 3))
    return np.concatenate([t, a, CENTRE + DRIFT * t + a @ SLOPES.T + np.exp(-side * RATE * t) * noise], 1)


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_a_centred_hierarchy_becomes_a_gaussian(side: float) -> None:
    """Exactly: in the bend's coordinates log p is quadratic, its curvature the same everywhere."""
    evaluate = evaluated(hierarchy(side))
    bend = necks.find(evaluate, draws(side))
    assert bend is not None
    np.testing.assert_allclose(np.sort(bend.log_scale[1])[[0, -1]], sorted([0.0, -side * RATE]), atol=1e-3)
    assert np.count_nonzero(bend.log_scale[1]) == 3
    inside = curving.inside((bend,), evaluate)
    y = np.random.default_rng(1).standard_normal((200, SIZE))
    _, gradients = inside(y)
    quadratic = np.linalg.lstsq(np.concatenate([y, np.ones([200, 1])], 1), gradients, rcond=None)
    assert np.abs(gradients - np.concatenate([y, np.ones([200, 1])], 1) @ quadratic[0]).max() < 0.02


def test_what_does_not_shrink_has_no_neck() -> None:
    covariance = 0.6 * np.ones((SIZE, SIZE)) + 0.4 * np.eye(SIZE)
    precision = np.linalg.inv(covariance)
    gaussian = evaluated(lambda w: -0.5 * tf.reduce_sum((w @ precision) * w, 1))
    w = np.random.default_rng(0).multivariate_normal(np.zeros(SIZE), covariance, 2_048)
    assert necks.find(gaussian, w) is None


@pytest.mark.parametrize("wrong", [np.nan, -np.inf])
def test_a_side_on_which_the_density_breaks_is_left_out(wrong: float) -> None:
    log_prob = hierarchy(-1.0)
    broken = evaluated(lambda w: tf.where(w[:, 0] < -3.5, tf.constant(wrong, tf.float64), log_prob(w)))
    assert necks.find(broken, draws(-1.0)) is None


@pytest.mark.parametrize("seed", [0, 1])
def test_a_funnel_is_met_although_no_draw_has_been_in_its_neck(seed: int) -> None:
    """Neal's: v ~ N(0, 3^2), x ~ N(0, e^v I_5); the draws leave out the lower half of v and more."""
    rng = np.random.default_rng(seed)

    def log_prob(z: tf.Tensor) -> tf.Tensor:
        v, x = z[:, 0], z[:, 1:]
        normal = -0.5 * (v / 3.0) ** 2 - 0.5 * tf.exp(-v) * tf.reduce_sum(x**2, 1) - 2.5 * v
        return normal - 3.0 * np.log(2.0 * np.pi) - np.log(3.0)

    v = 2.0 + 1.5 * rng.standard_normal((2_048, 1))
    z = np.concatenate([v, np.exp(0.5 * v) * rng.standard_normal((2_048, 5))], 1)
    found = curving.curve(evaluated(log_prob), z, seed=seed, tolerance=0.015)
    assert found is not None and found.divergence < 0.015 and -0.01 < found.bound < 0.005


def test_the_neck_of_another_hierarchy_stays_where_it_is() -> None:
    """Given t, log p has no maximum: it grows without end as the other scale, s, goes to zero."""

    def log_prob(w: tf.Tensor) -> tf.Tensor:
        t, s, a, b = w[:, 0], w[:, 1], w[:, 2:5], w[:, 5:]
        first = -0.5 * t**2 - 0.5 * tf.exp(-2.0 * RATE * t) * tf.reduce_sum(a**2, 1) - 3.0 * RATE * t
        return first - 0.5 * s**2 - 0.5 * tf.exp(-2.0 * s) * tf.reduce_sum(b**2, 1) - 6.0 * s

    rng = np.random.default_rng(0)
    scales = rng.standard_normal((2_048, 2))
    a, b = np.exp(RATE * scales[:, :1]), np.exp(scales[:, 1:])
    w = np.concatenate([scales, a * rng.standard_normal((2_048, 3)), b * rng.standard_normal((2_048, 6))], 1)
    bend = necks.find(evaluated(log_prob), w)
    assert bend is not None
    shrinking = np.flatnonzero(bend.log_scale[1])
    np.testing.assert_allclose(bend.log_scale[1, shrinking], [RATE] * 3, atol=1e-3)
    assert np.abs(np.delete(bend.matrix[:, shrinking], [2, 3, 4], 0)).max() < 1e-3  # a alone shrinks with t
