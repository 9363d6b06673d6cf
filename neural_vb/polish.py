"""Short Hamiltonian chains from draws: a transition leaves the target as it is, and what is not it fades.

Draws that are the target's stay so, exactly; draws that are not come nearer with every transition (the total variation
distance never grows). Preconditioner and step size come from other draws, so that nothing of a chain's own past is in
its kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from neural_vb._types import Array, Seed, Tensor
from neural_vb.hamiltonian import Points, propose
from neural_vb.mixtures import fold_in, normal

NUM_TRANSITIONS = 50
NUM_LEAPFROG = 16
TARGET_ACCEPTANCE = 0.8
LARGEST_JITTER = 8.0
REACH = 4.0  # sds; with lengths and jitter as below a quarter of a Gaussian's period on average: what forgets most

Density = Callable[[Tensor, Any], tuple[Tensor, Tensor]]


class Coordinates(NamedTuple):
    """u = mean + scale_tril v, one map for each data set.

    Attributes:
        mean: [B, D].
        scale_tril: [B, D, D].
    """

    mean: Array | Tensor
    scale_tril: Array | Tensor


class Polished(NamedTuple):
    """Ends of the chains.

    Attributes:
        u: [S, B, D].
        log_prob: [S, B], nats.
        score: [S, B, D], gradient of ``log_prob`` in u.
        acceptance: [B], mean over chains and transitions.
        step_size: [B], in standard deviations of the draws, at the end.
    """

    u: Tensor
    log_prob: Tensor
    score: Tensor
    acceptance: Tensor
    step_size: Tensor


def coordinates(u: Array) -> Coordinates:
    """Those in which draws [S, B, D] are about standard, the covariance shrunk where there are few draws.

    A direction in which they have no spread, as of a sampler that has collapsed, gets a tiny one.
    """
    u = np.asarray(u, np.float64)
    num, _, size = u.shape
    mean = u.mean(0)
    scale = np.maximum(u.std(0), 1e-9 * np.abs(mean) + 1e-30)
    v = (u - mean) / scale
    share = size / (size + num)
    correlation = (1.0 - share) * np.einsum("sbi,sbj->bij", v, v) / num + (share + 1e-9) * np.eye(size)
    return Coordinates(mean, scale[:, :, None] * np.linalg.cholesky(correlation))


def polish(
    density: Density,
    u: Tensor,
    tuning: Tensor,
    start: Coordinates,
    x: Any,
    *,
    seed: Seed,
    num_transitions: int | Tensor,
    num_leapfrog: int = NUM_LEAPFROG,
    reach: float | None = None,
    step_size: Tensor | None = None,
) -> Polished:
    """Hamiltonian transitions of all draws in parallel. Call it inside a compiled function.

    Trajectories have random lengths, the same for all chains, since a fixed one can return where it came from. Chains
    differ in their steps, between an eighth of the tuned one and all of it, so that a draw in a steeper place than
    the others moves too.

    Args:
        density: (u [S, B, D], x) -> log p [S, B] and its gradient; -inf and zero where it is not finite.
        u: [S, B, D], where the chains begin.
        tuning: [S', B, D], draws that begin chains of their own; the step size of each data set follows the acceptance
            of these.
        start: coordinates that were not made from ``u``.
        x: what the density wants to know, a structure of tensors, such as data sets [B, X]; or None.
        seed: stateless seed [2].
        num_transitions: of each chain.
        num_leapfrog: most steps of a trajectory.
        reach: sds; trajectories are not longer, so that where steps are long few of them are made, a third of
            the most at least; and most chains make steps near the tuned one.
        step_size: [B], sds, where tuning begins.
    """
    num_tuning, width, size = tuning.shape[0], u.shape[1], u.shape[-1]
    mean, scale_tril = (tf.cast(part, tf.float32) for part in start)
    given = x is not None
    both = tf.concat([tuning, u], 0)
    v = tf.linalg.triangular_solve(scale_tril, tf.transpose(both - mean, [1, 2, 0]))
    v = tf.transpose(v, [2, 0, 1])

    def to_u(v: Tensor, mean: Tensor, scale_tril: Tensor) -> Tensor:
        return mean + tf.einsum("bij,sbj->sbi", scale_tril, v)

    def body(t: Tensor, points: Points, step: Tensor, accepted: Tensor, *fixed: Tensor) -> tuple[Tensor, ...]:
        # Of what does not change in a loop XLA may want the values, and compile anew for each: it must not know.
        fixed = tf.nest.map_structure(lambda part: tf.where(t < 0, tf.zeros_like(part), part), fixed)
        seed, mean, scale_tril, x = fixed

        def value_and_gradient(v: Tensor) -> tuple[Tensor, Tensor]:
            value, gradient = density(to_u(v, mean, scale_tril), x if given else None)
            return value, tf.einsum("bij,sbi->sbj", scale_tril, gradient)

        noise = normal(tf.shape(points.u)[:-1], size + 3, fold_in(seed, t + 1))
        uniform = 0.5 * tf.math.erfc(-noise[..., size:] / math.sqrt(2.0))
        first = t == 0  # the gradient at the start: one copy of the density serves all
        slow, share = uniform[..., 1], uniform[0, 0, 2]
        if reach is None:
            length = 1 + tf.cast(share * num_leapfrog, tf.int32)
        else:
            most = tf.clip_by_value(tf.math.ceil(reach / tf.reduce_min(step)), 1.0, float(num_leapfrog))
            length, slow = tf.cast(tf.math.ceil((1.0 + 2.0 * share) / 3.0 * most), tf.int32), slow**2
        jitter = tf.exp(-math.log(LARGEST_JITTER) * slow)
        chain_step = tf.where(first, 0.0, step * jitter)[..., tf.newaxis]
        end, log_ratio = propose(
            value_and_gradient, points, noise[..., :size], step=chain_step, num_leapfrog=tf.where(first, 1, length)
        )
        points = end.where(first | (tf.math.log(uniform[..., 0]) < log_ratio), points)
        rate = tf.exp(tf.minimum(log_ratio, 0.0))
        pace = 1.0 / tf.sqrt(1.0 + tf.cast(t, tf.float32))
        tuned = step * tf.exp(pace * (tf.reduce_mean(rate[:num_tuning], 0) - TARGET_ACCEPTANCE))
        mean_rate = tf.reduce_mean(rate[num_tuning:], 0)
        return (
            t + 1,
            points,
            tf.where(first, step, tuned),
            accepted + tf.where(first, 0.0, mean_rate),
            *fixed,
        )

    zeros = tf.zeros_like(v[..., 0])
    state = (
        tf.constant(0),
        Points(v, zeros, tf.zeros_like(v)),
        tf.fill([width], 0.5 * size**-0.25) if step_size is None else step_size,
        tf.zeros([width]),
        *(tf.convert_to_tensor(seed), mean, scale_tril),
        x if given else (),
    )
    end = tf.while_loop(lambda t, *_: t <= num_transitions, body, state)
    points, step, accepted = end[1:4]
    ends = Points(*(part[num_tuning:] for part in points))
    count = tf.cast(tf.maximum(num_transitions, 1), tf.float32)
    score = tf.linalg.triangular_solve(scale_tril, tf.transpose(ends.gradient, [1, 2, 0]), adjoint=True)
    score = tf.transpose(score, [2, 0, 1])
    return Polished(to_u(ends.u, mean, scale_tril), ends.log_prob, score, accepted / count, step)
