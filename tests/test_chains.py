"""Chains of a target: scores and densities are the target's own, in straight coordinates and in curved ones."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from neural_vb import bending
from neural_vb.diagnostics.chains import WIDTH, Chains, kernel
from neural_vb.targets import LogProbTarget
from neural_vb.whitening import WhitenedTarget, Whitening

SIZE, SD = 6, 1.5


def funnel(z: tf.Tensor) -> tf.Tensor:
    """v ~ N(0, SD^2), the others given v ~ N(0, e^v)."""
    v, rest = z[:, 0], z[:, 1:]
    return -0.5 * (v / SD) ** 2 - 0.5 * (SIZE - 1) * v - 0.5 * tf.exp(-v) * tf.reduce_sum(rest**2, -1)


def draws(num: int, seed: int) -> np.ndarray:
    z = np.random.default_rng(seed).standard_normal((num, SIZE))
    z[:, 0] *= SD
    z[:, 1:] *= np.exp(0.5 * z[:, :1])
    return z


CHAINS = Chains(
    WhitenedTarget(LogProbTarget(funnel, event_shape=[SIZE]), Whitening(np.zeros(SIZE), np.eye(SIZE))),
    jit_compile=False,
)


def test_a_look_moves_nothing_and_is_the_density() -> None:
    u = draws(WIDTH + 300, 0)
    log_prob, score = CHAINS.look(u)
    v, rest = u[:, 0], u[:, 1:]
    square = np.exp(-v) * (rest**2).sum(1)
    np.testing.assert_allclose(
        log_prob, -0.5 * (v / SD) ** 2 - 0.5 * (SIZE - 1) * v - 0.5 * square, rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(score[:, 0], -v / SD**2 - 0.5 * (SIZE - 1) + 0.5 * square, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(score[:, 1:], -np.exp(-v)[:, np.newaxis] * rest, rtol=1e-4, atol=1e-4)


def test_a_look_at_a_point_without_density() -> None:
    target = LogProbTarget(lambda z: tf.reduce_sum(tf.math.log(z), -1), event_shape=[1])
    chains = Chains(WhitenedTarget(target, Whitening(np.zeros(1), np.eye(1))), jit_compile=False)
    log_prob, score = chains.look(np.array([[-1.0], [2.0]]))
    np.testing.assert_allclose(log_prob, [-np.inf, np.log(2.0)], rtol=1e-6)
    np.testing.assert_allclose(score, [[0.0], [0.5]])


def test_curved_coordinates_leave_exact_draws_exact_and_chains_forget_in_them() -> None:
    begin, others = draws(4_096, 1), draws(8_192, 2)
    bend = bending.find(others)
    assert bend is not None
    ends = CHAINS.run(begin, kernel(others, bend), num_transitions=6, seed=3)
    y = np.concatenate([ends.u[:, :1] / SD, ends.u[:, 1:] * np.exp(-0.5 * ends.u[:, :1])], 1)
    assert np.abs(y.mean(0)).max() < 4.0 / np.sqrt(len(y))
    assert np.abs((y**2).mean(0) - 1.0).max() < 4.0 * np.sqrt(2.0 / len(y))
    np.testing.assert_allclose(ends.log_prob, CHAINS.look(ends.u)[0], rtol=1e-3, atol=2e-3)
    assert abs(np.corrcoef(begin[:, 0], ends.u[:, 0])[0, 1]) < 4.0 / np.sqrt(len(y)) + 0.05
    assert ends.acceptance > 0.6


def test_a_step_size_is_handed_on() -> None:
    u, tuned = draws(100, 4), kernel(draws(1_000, 5))
    first = CHAINS.run(u, tuned, num_transitions=20, seed=0)
    assert first.step_size != tuned.step_size
    again = CHAINS.run(u, tuned._replace(step_size=first.step_size), num_transitions=0, seed=0)
    np.testing.assert_array_equal(again.step_size, first.step_size)
