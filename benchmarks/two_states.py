"""Likelihood of a chain of two hidden states, by the forward recursion over times for all points together.

With d_t = log b_t - log a_t for the densities a_t, b_t of the emission in states 0 and 1, p_t = P(state 0 at t | what
came before) and q_t the same given the emission at t too,

    w_t = p_t + (1 - p_t) exp(d_t),    q_t = p_t / w_t,    p_(t+1) = second + (first - second) q_t,

and the log likelihood is the sum of log a_t and log w_t (Rabiner, Proceedings of the IEEE 77, 1989). A step over n
points is a few operations on [n], so that it stays in a processor's first cache. For few points, where TensorFlow's
loop itself would take the time, 2 x 2 matrices of neighbouring times are multiplied instead, pair by pair.

In the code w_t is divided by max(1, exp(d_t)), lest it overflow, and 1 - p_t is carried beside p_t, lest it be
rounding alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

START = 0.5  # p_1
FEW = 64  # points


def in_tensorflow() -> Callable[..., Any]:
    """(log a [T, n], log b [T, n], first [n], second [n]) -> log likelihood [n].

    The gradient of the loop is the backward recursion; TensorFlow's own is correct, and twenty-five times slower.
    """
    import tensorflow as tf

    def scaled(d: Any, small: Any) -> tuple[Any, Any]:
        """1 and exp(d), divided by the larger; ``small`` is exp(-|d|)."""
        return tf.where(d > 0.0, small, 1.0), tf.where(d > 0.0, tf.ones_like(d), small)

    def pairwise(d: Any, first: Any, second: Any) -> Any:
        a, b = scaled(d, tf.exp(-tf.abs(d)))
        begin = tf.stack([START * a[:1], 0.0 * b[:1], 0.0 * a[:1], START * b[:1]])
        later = tf.stack([first * a[1:], (1.0 - first) * b[1:], second * a[1:], (1.0 - second) * b[1:]])
        product = tf.concat([begin, later], 1)  # matrices by rows, [4, T, n]
        found = tf.zeros_like(first)
        while (count := product.shape[1]) > 1:
            left, right = tf.unstack(product[:, : count - 1 : 2]), tf.unstack(product[:, 1::2])
            # Sums written out: TensorFlow's reduction of a short first axis is slow.
            both = [left[i] * right[k] + left[i + 1] * right[k + 2] for i in (0, 2) for k in (0, 1)]
            total = both[0] + both[1] + both[2] + both[3]
            found += tf.reduce_sum(tf.math.log(total), 0)
            product = tf.concat([tf.stack(both) / total, product[:, count - count % 2 :]], 1)
        return found + tf.math.log(tf.reduce_sum(product, [0, 1]))

    @tf.custom_gradient
    def recursion(d: Any, first: Any, second: Any) -> Any:
        # Loops hold what needs the step before alone, and write little: the rest is made of whole arrays.
        count, persistence, small = d.shape[0], first - second, tf.exp(-tf.abs(d))

        def rows() -> Any:
            return tf.TensorArray(d.dtype, size=count, element_shape=first.shape)

        def loop(body: Callable[..., Any], begin: int, *state: Any) -> Any:
            inside = lambda t, *_: (t >= 0) & (t < count)  # noqa: E731
            return tf.while_loop(inside, body, (begin, *state), maximum_iterations=count, parallel_iterations=1)

        def forward(t: Any, p: Any, other: Any, p_: Any, other_: Any) -> Any:
            a, b = scaled(d[t], small[t])
            zero, one = p * a, other * b
            w = zero + one
            state = (first * zero + second * one) / w, ((1.0 - first) * zero + (1.0 - second) * one) / w
            return t + 1, *state, p_.write(t, p), other_.write(t, other)

        start = START + tf.zeros_like(first)
        p_, other_ = (part.stack() for part in loop(forward, 0, start, start, rows(), rows())[3:])
        a, b = scaled(d, small)
        w = p_ * a + other_ * b

        def gradient(upstream: Any) -> Any:
            def backward(t: Any, d_p: Any, d_p_: Any) -> Any:
                a, b = scaled(d[t], small[t])
                inverse = 1.0 / (p_[t] * a + other_[t] * b)
                zero, one = a * inverse, b * inverse
                return t - 1, upstream * (zero - one) + persistence * d_p * zero * one, d_p_.write(t, d_p)

            d_p = loop(backward, count - 1, tf.zeros_like(first), rows())[2].stack()
            q, not_q = p_ * a / w, other_ * b / w
            d_d = tf.where(d > 0.0, -q, not_q) * upstream - persistence * d_p * q * not_q
            return d_d, tf.reduce_sum(d_p * q, 0), tf.reduce_sum(d_p * not_q, 0)

        return tf.reduce_sum(tf.math.log(w), 0), gradient

    def log_likelihood(log_a: Any, log_b: Any, first: Any, second: Any) -> Any:
        d = log_b - log_a
        few = d.shape[1] is not None and d.shape[1] <= FEW
        return tf.reduce_sum(tf.maximum(log_a, log_b), 0) + (pairwise if few else recursion)(d, first, second)

    return log_likelihood


def in_jax() -> Callable[..., Any]:
    """(log a [T, n], log b [T, n], first [n], second [n]) -> log likelihood [n]."""
    import jax
    import jax.numpy as jnp

    def log_likelihood(log_a: Any, log_b: Any, first: Any, second: Any) -> Any:
        def forward(state: Any, d: Any) -> Any:
            small = jnp.exp(-jnp.abs(d))
            a, b = jnp.where(d > 0.0, small, 1.0), jnp.where(d > 0.0, 1.0, small)
            w = state[0] * a + state[1] * b
            q, not_q = state[0] * a / w, state[1] * b / w
            return (first * q + second * not_q, (1.0 - first) * q + (1.0 - second) * not_q), jnp.log(w)

        start = START + 0.0 * first
        scaled = jax.lax.scan(forward, (start, start), log_b - log_a)[1]
        return (scaled + jnp.maximum(log_a, log_b)).sum(0)

    return log_likelihood
