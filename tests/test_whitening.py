"""Whitened coordinates: inverse maps, change of variables, precision, and the guard on scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from neural_vb import bending
from neural_vb._types import Tensor
from neural_vb.compilation import Compiled
from neural_vb.targets import LogProbTarget
from neural_vb.whitening import Frame, TracedTarget, WhitenedTarget, Whitening

RNG = np.random.RandomState(0)
SHIFT = np.array([100.0, -3.0, 0.02])
SCALE_TRIL = np.array([[20.0, 0.0, 0.0], [-4.0, 0.5, 0.0], [0.001, 0.002, 0.0005]])
WHITENING = Whitening(SHIFT, SCALE_TRIL)


def gaussian_target(dtype: tf.DType = tf.float64) -> LogProbTarget:
    """Half of N(SHIFT, SCALE_TRIL SCALE_TRIL^T): log Z = log .5."""
    precision = np.linalg.inv(SCALE_TRIL @ SCALE_TRIL.T)
    constant = np.log(0.5) - 1.5 * np.log(2 * np.pi) - np.log(np.diag(SCALE_TRIL)).sum()

    def log_prob(z: Tensor) -> Tensor:
        centred = z - tf.cast(SHIFT, z.dtype)
        return tf.cast(constant, z.dtype) - 0.5 * tf.einsum(
            "ni,ij,nj->n", centred, tf.cast(precision, z.dtype), centred
        )

    return LogProbTarget(log_prob, event_shape=[3], dtype=dtype)


def test_to_z_and_to_u_are_inverse_in_float64() -> None:
    u = RNG.randn(7, 2, 3)
    z = WHITENING.to_z(tf.constant(u))
    assert z.dtype == tf.float64
    np.testing.assert_allclose(z, SHIFT + u @ SCALE_TRIL.T, rtol=1e-12)
    np.testing.assert_allclose(WHITENING.to_u(z.numpy()), u, atol=1e-9)
    np.testing.assert_allclose(WHITENING.to_u(z.numpy()[0, 0]), u[0, 0], atol=1e-9)


def test_to_z_widens_float32() -> None:
    large = Whitening(np.array([1e9]), np.array([[1e-3]]))
    assert float(large.to_z(tf.constant([[2.0]]))[0, 0]) == 1e9 + 2e-3


def test_log_det_is_that_of_the_map() -> None:
    assert WHITENING.log_det == pytest.approx(np.linalg.slogdet(SCALE_TRIL)[1])
    assert WHITENING.event_size == 3


def test_log_prob_is_the_density_of_u_less_the_offset() -> None:
    u = RNG.randn(50, 2, 3).astype("float32")
    exact = np.log(0.5) + scipy.stats.norm.logpdf(u.astype(np.float64)).sum(-1)
    for offset in (0.0, 12.5, -3.0):
        target = WhitenedTarget(gaussian_target(), WHITENING, offset)
        found = target.log_prob(tf.constant(u))
        assert found.dtype == tf.float32 and found.shape == (50, 2)
        np.testing.assert_allclose(found.numpy().astype(np.float64) + offset, exact, rtol=1e-6, atol=1e-5)


def test_a_large_constant_in_log_p_is_lost_by_no_digit() -> None:
    """log p near 1e8 resolves 8 nats in float32; what is left after the offset keeps all of its own digits."""
    huge = LogProbTarget(lambda z: -0.5 * tf.reduce_sum(z**2, -1) + 1e8, event_shape=[2], dtype=tf.float64)
    target = WhitenedTarget(huge, Whitening(np.zeros(2), np.eye(2)), offset=1e8)
    u = RNG.randn(20, 1, 2).astype("float32")
    np.testing.assert_allclose(target.log_prob(tf.constant(u)), -0.5 * (u**2).sum(-1), atol=1e-6)


def test_scores_are_those_of_a_standard_normal() -> None:
    u = tf.constant(RNG.randn(20, 2, 3), tf.float32)
    for max_score in (np.inf, 1e3):
        target = WhitenedTarget(gaussian_target(), WHITENING, max_score=max_score)
        with tf.GradientTape() as tape:
            tape.watch(u)
            mean = tf.reduce_mean(target.log_prob(u))
        np.testing.assert_allclose(tape.gradient(mean, u) * 40.0, -u, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
@pytest.mark.parametrize("shape", [(8, 1, 2), (4, 3, 2)])
def test_the_guard_clips_long_scores_and_removes_broken_ones(dtype: tf.DType, shape: tuple[int, ...]) -> None:
    """log p = -a . |z|^2 / 2 with a NaN gradient where z_0 > 5, and a finite value."""

    def log_prob(z: Tensor) -> Tensor:
        broken = tf.where(z[:, 0] > 5.0, 0.0, tf.ones_like(z[:, 0]))
        return -0.5 * tf.reduce_sum(z**2, -1) + 1e-30 * tf.sqrt(broken * z[:, 0] ** 2)

    u = RNG.randn(*shape)
    u[0, 0], u[1, 0], u[2, 0] = [30.0, 40.0], [6.0, 0.0], [0.6, -0.8]
    whitening = Whitening(np.array([0.0, 1.0]), np.array([[1.0, 0.0], [0.5, 2.0]]))
    target = WhitenedTarget(LogProbTarget(log_prob, event_shape=[2], dtype=dtype), whitening, max_score=5.05)
    values = tf.constant(u, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(values)
        log_p = target.log_prob(values)
        mean = tf.reduce_mean(log_p)
    assert np.isfinite(log_p).all()
    scores = -(u @ whitening.scale_tril.T + whitening.shift) @ whitening.scale_tril
    lengths = np.linalg.norm(scores, axis=-1, keepdims=True)
    scores *= np.minimum(1.0, 5.05 / lengths)
    scores[u[..., 0] > 5.0] = 0.0  # the first stray is broken as well as long
    assert (lengths > 5.05).sum() > 2 and (lengths < 5.05).sum() > 1
    np.testing.assert_allclose(tape.gradient(mean, values) * np.prod(shape[:2]), scores, rtol=1e-4, atol=1e-5)


def test_a_clipped_score_keeps_its_direction() -> None:
    target = WhitenedTarget(gaussian_target(), WHITENING, max_score=2.0)
    u = tf.constant([[[30.0, -40.0, 0.0]]])
    with tf.GradientTape() as tape:
        tape.watch(u)
        log_p = target.log_prob(u)
    np.testing.assert_allclose(tape.gradient(log_p, u)[0, 0], [-1.2, 1.6, 0.0], atol=1e-3)


def test_value_and_gradient_is_not_shortened() -> None:
    """The guard is for training; chains and checks follow the gradient as it is."""
    short = WhitenedTarget(gaussian_target(), WHITENING, max_score=0.01)
    u = tf.constant(RNG.randn(5, 3), tf.float32)
    _, score = short.value_and_gradient(u)
    np.testing.assert_allclose(score, -u, atol=1e-4)


def test_value_and_gradient_where_the_density_is_not_finite() -> None:
    def log_prob(z: Tensor) -> Tensor:
        return tf.where(z[:, 0] > 1.0, np.nan, -0.5 * tf.reduce_sum(z**2, -1)) + tf.sqrt(tf.nn.relu(z[:, 1] + 1.0))

    plain = Whitening(np.zeros(2), np.eye(2))
    u = tf.constant([[0.5, 0.0], [2.0, 0.0], [0.5, -1.0]])
    value, gradient = WhitenedTarget(LogProbTarget(log_prob, event_shape=[2]), plain).value_and_gradient(u)
    np.testing.assert_allclose(value, [-0.125 + 1.0, -np.inf, -np.inf])
    np.testing.assert_allclose(gradient, [[-0.5, 0.5], [0.0, 0.0], [0.0, 0.0]])


def test_conditioning_data_reach_the_target() -> None:
    class Shifted:
        event_size = 1
        dtype = tf.float64

        def log_prob(self, z: Tensor, x: Tensor | None = None) -> Tensor:
            return -0.5 * tf.reduce_sum((z - tf.cast(x, z.dtype)) ** 2, -1)

        def constrain(self, z: Tensor) -> Tensor:
            return tf.exp(z)

    target = WhitenedTarget(Shifted(), Whitening(np.array([1.0]), np.array([[2.0]])))
    x = tf.constant([[0.0], [5.0]])
    found = target.log_prob(tf.zeros([3, 2, 1]), x)
    np.testing.assert_allclose(found, np.tile([-0.5, -8.0], (3, 1)) + np.log(2.0), rtol=1e-6)
    assert (target.event_size, target.dtype) == (1, tf.float32)
    draws = target.constrain(tf.constant([[0.5]]))
    assert draws.dtype == tf.float64 and float(draws[0, 0]) == pytest.approx(np.exp(2.0), rel=1e-12)


def bend() -> bending.Bend:
    log_scale, mean = np.zeros((3, 3)), np.zeros((4, 3))
    log_scale[:, 1:], mean[:, 1:] = 0.2 * RNG.randn(3, 2), 0.2 * RNG.randn(4, 2)
    matrix = SCALE_TRIL @ np.linalg.qr(RNG.randn(3, 3))[0]
    return bending.Bend(SHIFT, matrix, log_scale, mean, np.linalg.slogdet(matrix)[1])


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_density_traced_once_has_any_coordinates(jit_compile: bool) -> None:
    """Value and gradient are those of a whitened target, with and without bends; the user's function runs once."""
    calls: list[int] = []
    inner = gaussian_target()

    def log_prob(z: Tensor) -> Tensor:
        calls.append(1)
        return inner.log_prob_fn(z)

    density = TracedTarget(LogProbTarget(log_prob, event_shape=[3], dtype=tf.float64), 8)
    compiled = Compiled(density, jit_compile=jit_compile)
    u = RNG.randn(24, 3).astype("float32")
    bent = Whitening(np.array([0.1, -0.2, 0.3]), np.eye(3) + np.tril(0.2 * RNG.randn(3, 3), -1), (bend(),))
    for whitening in (WHITENING, bent, replace(bent, shift=np.zeros(3)), replace(bent, bends=(bend(), bend()))):
        value, gradient = WhitenedTarget(inner, whitening, 12.5).value_and_gradient(tf.constant(u[:8]))
        frame = Frame.of(whitening, 12.5)
        found = compiled(tf.constant(u[:8]), frame)
        np.testing.assert_allclose(found[0], value, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found[1], gradient, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(density.values(u, frame)[:8], value, rtol=1e-5, atol=1e-5)
    assert len(calls) == 1


def test_a_traced_density_is_nothing_where_it_is_not_finite() -> None:
    def log_prob(z: Tensor) -> Tensor:  # an infinite slope at zero, and no value below
        return tf.sqrt(z[:, 0])

    density = TracedTarget(LogProbTarget(log_prob, event_shape=[1]), 3)
    plain = Frame.of(Whitening(np.zeros(1), np.eye(1)), 0.0)
    value, gradient = density(tf.constant([[4.0], [0.0], [-1.0]]), plain)
    np.testing.assert_array_equal(value, [2.0, -np.inf, -np.inf])
    np.testing.assert_array_equal(gradient, [[0.25], [0.0], [0.0]])
