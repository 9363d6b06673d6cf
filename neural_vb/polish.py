"""Short Hamiltonian chains from draws: a transition leaves the target as it is, and what is not it fades.

Draws that are the target's stay so, exactly; draws that are not come nearer with every transition (the total variation
distance never grows). Preconditioner and step size come from other draws, so that nothing of a chain's own past is in
its kernel.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from neural_vb._types import Array, Seed, Tensor
from neural_vb.compilation import Compiled
from neural_vb.hamiltonian import Points, propose
from neural_vb.mixtures import fold_in, normal

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


class Transitions:
    """Hamiltonian transitions of many chains under a density.

    Trajectories have random lengths, the same for all chains, since a fixed one can return where it came from. Chains
    differ in their steps, between an eighth of the tuned one and all of it, so that a draw in a steeper place than
    the others moves too. Of a transition XLA compiles the trajectory alone: for the rest it would take longer than that
    ever takes to run.

    Args:
        density: (u [S, B, D], x) -> log p [S, B] and its gradient; -inf and zero where it is not finite.
        jit_compile: use XLA.
        reach: sds; trajectories are not longer, so that where steps are long few of them are made, a third of
            the most at least; and most chains make steps near the tuned one.
        num_parts: of the chains, which move side by side; where it does not divide their number XLA compiles twice.
    """

    def __init__(self, density: Density, *, jit_compile: bool, reach: float | None = None, num_parts: int = 1) -> None:
        # Functions that do not hold this: with it they would wait for the collector of cycles, graphs and all.
        run, part = functools.partial(_transition, reach, num_parts), functools.partial(trajectory, density)
        self._run = Compiled(run, part=part, jit_compile=jit_compile)

    def __call__(
        self, t: int, points: Points, step: Tensor, seed: Tensor, start: Coordinates, x: Any, num_tuning: int
    ) -> tuple[Points, Tensor, Tensor]:
        """Where chains are after transition t, the tuned step size [B], and the mean acceptance [B].

        Args:
            t: 1, 2, ...; or zero, which moves nothing and finds the gradient at the start.
            points: v [S, B, D], in the coordinates ``start``.
            step: [B].
            seed: stateless seed [2] of all transitions.
            start: coordinates.
            x: what the density is given.
            num_tuning: of the chains, the first, whose acceptance tunes the step size.
        """
        found: tuple[Points, Tensor, Tensor] = self._run(tf.constant(t), points, step, seed, start, x, num_tuning)
        return found


def trajectory(
    density: Density,
    points: Points,
    momentum: Tensor,
    step: Tensor,
    num_leapfrog: Tensor,
    start: Coordinates,
    x: Any,
) -> tuple[Points, Tensor]:
    """What :func:`neural_vb.hamiltonian.propose` finds in coordinates v; for XLA."""

    def value_and_gradient(v: Tensor, start: Coordinates, x: Any = None) -> tuple[Tensor, Tensor]:
        value, gradient = density(_to_u(v, start), x)
        return value, tf.einsum("bij,sbi->sbj", start.scale_tril, gradient)

    fixed = (start,) if x is None else (start, x)
    return propose(value_and_gradient, points, momentum, step=step, num_leapfrog=num_leapfrog, fixed=fixed)


def _transition(
    reach: float | None,
    num_parts: int,
    trajectory: Callable[..., tuple[Points, Tensor]],
    t: Tensor,
    points: Points,
    step: Tensor,
    seed: Tensor,
    start: Coordinates,
    x: Any,
    num_tuning: int,
) -> tuple[Points, Tensor, Tensor]:
    num, _, size = points.u.shape
    noise = normal(tf.shape(points.u)[:-1], size + 3, fold_in(seed, t))
    uniform = 0.5 * tf.math.erfc(-noise[..., size:] / math.sqrt(2.0))
    slow, share = uniform[..., 1], uniform[0, 0, 2]
    if reach is None:
        length = 1 + tf.cast(share * NUM_LEAPFROG, tf.int32)
    else:
        most = tf.clip_by_value(tf.math.ceil(reach / tf.reduce_min(step)), 1.0, float(NUM_LEAPFROG))
        length, slow = tf.cast(tf.math.ceil((1.0 + 2.0 * share) / 3.0 * most), tf.int32), slow**2
    first = t == 0
    chain_step = tf.where(first, 0.0, step * tf.exp(-math.log(LARGEST_JITTER) * slow))
    chains, ends = (points, noise[..., :size], chain_step[..., tf.newaxis]), []
    for rows in np.array_split(np.arange(num), num_parts):
        part = tf.nest.map_structure(lambda values, rows=rows: values[rows[0] : rows[-1] + 1], chains)
        ends.append(trajectory(*part, tf.where(first, 1, length), start, x))
    end, log_ratio = tf.nest.map_structure(lambda *parts: tf.concat(parts, 0), *ends)
    rate = tf.exp(tf.minimum(log_ratio, 0.0))
    pace = 1.0 / tf.sqrt(1.0 + tf.cast(t, tf.float32))
    tuned = step * tf.exp(pace * (tf.reduce_mean(rate[:num_tuning], 0) - TARGET_ACCEPTANCE))
    accepted = tf.where(first, 0.0, tf.reduce_mean(rate[num_tuning:], 0))
    chosen = first | (tf.math.log(uniform[..., 0]) < log_ratio)
    return end.where(chosen, points), tf.where(first, step, tuned), accepted


def polish(
    transitions: Transitions,
    u: Tensor,
    tuning: Tensor,
    start: Coordinates,
    x: Any,
    *,
    seed: Seed,
    num_transitions: int,
    step_size: Tensor | None = None,
) -> Polished:
    """Hamiltonian transitions of all draws in parallel. Call it outside of compiled functions.

    Args:
        transitions: of the density.
        u: [S, B, D], where the chains begin.
        tuning: [S', B, D], draws that begin chains of their own; the step size of each data set follows the acceptance
            of these.
        start: coordinates that were not made from ``u``.
        x: what the density wants to know, a structure of tensors, such as data sets [B, X]; or None.
        seed: stateless seed [2].
        num_transitions: of each chain.
        step_size: [B], sds, where tuning begins.
    """
    num_tuning, width, size = tuning.shape[0], u.shape[1], u.shape[-1]
    start = Coordinates(*(tf.cast(part, tf.float32) for part in start))
    both = tf.concat([tuning, u], 0)
    v = tf.linalg.triangular_solve(start.scale_tril, tf.transpose(both - start.mean, [1, 2, 0]))
    v = tf.transpose(v, [2, 0, 1])
    points = Points(v, tf.zeros_like(v[..., 0]), tf.zeros_like(v))
    step = tf.fill([width], 0.5 * size**-0.25) if step_size is None else step_size
    accepted = tf.zeros([width])
    # Mixed: transitions add to a seed, and so do the streams that it may come from.
    seed = tf.random.stateless_uniform([2], seed, None, None, tf.int32, "philox")
    for t in range(num_transitions + 1):
        points, step, rate = transitions(t, points, step, seed, start, x, num_tuning)
        accepted += rate
    ends = Points(*(part[num_tuning:] for part in points))
    score = tf.linalg.triangular_solve(start.scale_tril, tf.transpose(ends.gradient, [1, 2, 0]), adjoint=True)
    score = tf.transpose(score, [2, 0, 1])
    return Polished(_to_u(ends.u, start), ends.log_prob, score, accepted / max(num_transitions, 1), step)


def _to_u(v: Tensor, start: Coordinates) -> Tensor:
    return start.mean + tf.einsum("bij,sbj->sbi", start.scale_tril, v)
