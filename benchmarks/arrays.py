"""The few array functions that models need, under one name in TensorFlow and in JAX, so that each is written once.

Parameters have a leading axis of draws, [n, ...]; functions act on the last axis unless they say otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import two_states

Function = Callable[..., Any]


@dataclass(frozen=True)
class Arrays:
    """A library's functions.

    Attributes:
        constant: (values, like) -> values in the precision of the array ``like``.
        exp: elementwise, as are ``log``, ``log1p`` and ``softplus``.
        sum: over the last axis, or (array, axis) -> over that one.
        logsumexp: over the last axis.
        stack: arrays -> a new first axis.
        concat: arrays -> along the last axis.
        product: (values [n, K], matrix [K, N]) -> [n, N].
        two_states: (log emissions [T, n] twice, [n], [n]) -> log likelihood [n], see :mod:`benchmarks.two_states`.
        mahalanobis: (covariance [n, N, N], x [N]) -> x^T C^-1 x and log det C, [n] each.
    """

    constant: Function
    exp: Function
    log: Function
    log1p: Function
    softplus: Function
    sum: Function
    logsumexp: Function
    stack: Function
    concat: Function
    product: Function
    two_states: Function
    mahalanobis: Function


def tensorflow() -> Arrays:
    """Of TensorFlow."""
    import tensorflow as tf

    def mahalanobis(covariance: Any, x: Any) -> tuple[Any, Any]:
        lower = tf.linalg.cholesky(covariance)
        right = tf.broadcast_to(x, tf.shape(covariance)[:-1])[..., tf.newaxis]
        white = tf.linalg.triangular_solve(lower, right)[..., 0]
        return tf.reduce_sum(white**2, -1), 2.0 * tf.reduce_sum(tf.math.log(tf.linalg.diag_part(lower)), -1)

    return Arrays(
        constant=lambda values, like: tf.constant(np.asarray(values), like.dtype),
        exp=tf.exp,
        log=tf.math.log,
        log1p=tf.math.log1p,
        softplus=tf.math.softplus,
        sum=lambda x, axis=-1: tf.reduce_sum(x, axis),
        logsumexp=lambda x: tf.reduce_logsumexp(x, -1),
        stack=tf.stack,
        concat=lambda parts: tf.concat(parts, -1),
        product=tf.linalg.matmul,
        two_states=two_states.in_tensorflow(),
        mahalanobis=mahalanobis,
    )


def jax() -> Arrays:
    """Of JAX."""
    import jax.numpy as jnp
    from jax.nn import softplus
    from jax.scipy.linalg import solve_triangular
    from jax.scipy.special import logsumexp

    def mahalanobis(covariance: Any, x: Any) -> tuple[Any, Any]:
        lower = jnp.linalg.cholesky(covariance)
        right = jnp.broadcast_to(x, covariance.shape[:-1])[..., None]
        white = solve_triangular(lower, right, lower=True)[..., 0]
        diagonal = jnp.diagonal(lower, axis1=-2, axis2=-1)
        return jnp.sum(white**2, -1), 2.0 * jnp.sum(jnp.log(diagonal), -1)

    return Arrays(
        constant=lambda values, like: jnp.asarray(np.asarray(values), like.dtype),
        exp=jnp.exp,
        log=jnp.log,
        log1p=jnp.log1p,
        softplus=softplus,
        sum=lambda x, axis=-1: jnp.sum(x, axis),
        logsumexp=lambda x: logsumexp(x, -1),
        stack=jnp.stack,
        concat=lambda parts: jnp.concatenate(parts, -1),
        product=jnp.matmul,
        two_states=two_states.in_jax(),
        mahalanobis=mahalanobis,
    )
