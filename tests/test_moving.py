"""Moved draws: those of the target stay so, others come to it, in any coordinates, as many at once as were traced."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from neural_vb._types import Array
from neural_vb.moving import Mover
from neural_vb.targets import LogProbTarget
from neural_vb.whitening import Frame, TracedTarget, Whitening

MEAN, SCALES = np.array([3.0, -1.0]), np.array([0.5, 2.0])
EXACT = Frame.of(Whitening(MEAN, np.diag(SCALES)), 0.0)
RNG = np.random.default_rng(0)
NUM, TUNING = 2_000, 64
NOISE = 4.5 / np.sqrt(NUM)


def log_prob(z: tf.Tensor) -> tf.Tensor:
    return -0.5 * tf.reduce_sum(((z - tf.cast(MEAN, z.dtype)) / tf.cast(SCALES, z.dtype)) ** 2, -1)


@pytest.fixture(scope="module")
def mover() -> Mover:
    return Mover(TracedTarget(LogProbTarget(log_prob, event_shape=[2]), 4 * TUNING), 0)


def check_standard(u: Array) -> None:
    np.testing.assert_allclose(u.mean(0), 0.0, atol=NOISE)
    np.testing.assert_allclose(np.cov(u.T), np.eye(2), atol=1.5 * NOISE)


@pytest.mark.parametrize(("centre", "width"), [(0.0, 1.0), (1.5, 0.3)])
def test_ends_are_draws_of_the_target_wherever_they_began(mover: Mover, centre: float, width: float) -> None:
    start = centre + width * RNG.standard_normal((TUNING + NUM, 2))
    u, values = mover(EXACT, False, start, 0, 30)
    assert u.shape == (NUM, 2) and np.abs(u - start[TUNING:]).max() > 0.5
    check_standard(u)
    np.testing.assert_allclose(values, -0.5 * (u**2).sum(1) + np.log(SCALES).sum(), atol=1e-4)


def test_other_coordinates_are_no_other_draws(mover: Mover) -> None:
    """u = 2 v - 1 in each coordinate."""
    frame = Frame.of(Whitening(MEAN - SCALES, np.diag(2.0 * SCALES)), 0.0)
    v, _ = mover(frame, False, 0.5 + 0.5 * RNG.standard_normal((TUNING + NUM, 2)), 0, 10)
    check_standard(2.0 * v - 1.0)


def test_equal_calls_give_equal_draws_and_others_do_not(mover: Mover) -> None:
    start = RNG.standard_normal((TUNING + 10, 2))
    one, again, other = (mover(EXACT, False, start, look, 5)[0] for look in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).all()


def test_draws_without_a_density_are_left_out() -> None:
    def half(z: tf.Tensor) -> tf.Tensor:
        return tf.where(z[:, 0] > 0.0, -0.5 * tf.reduce_sum(z**2, -1), -np.inf)

    mover = Mover(TracedTarget(LogProbTarget(half, event_shape=[2]), 4 * TUNING), 0)
    start = np.abs(RNG.standard_normal((TUNING + 50, 2)))
    start[TUNING : TUNING + 5] = [-40.0, 0.0]  # farther than chains come
    u, values = mover(Frame.of(Whitening(np.zeros(2), np.eye(2)), 0.0), False, start, 0, 2)
    assert len(u) == len(values) == 45 and (u[:, 0] > 0.0).all() and np.isfinite(values).all()
