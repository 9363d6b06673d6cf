"""Tempered sequential Monte Carlo: particles that find every mode that an over-dispersed start can reach.

Del Moral, Doucet & Jasra, "Sequential Monte Carlo samplers" (JRSS B 68, 2006), along the geometric path
N(u; 0, s^2 I)^(1 - beta) p(u)^beta, with temperatures chosen by effective sample size, systematic resampling and
Hamiltonian moves. Compiled as one XLA loop with one copy of the gradient, which is why TFP's version is not used.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import tensorflow as tf

from neural_vb._types import Seed, Tensor
from neural_vb.hamiltonian import Points, ValueAndGradient, propose
from neural_vb.mixtures import fold_in, normal

_STRIDE = 1_024  # random streams of a stage: more than its moves


def default_scale(event_size: int) -> float:
    """Half as wide again as the Gaussian at hand; less in many dimensions, where that is many nats away from it."""
    return 1.0 + 0.5 * min(1.0, math.sqrt(10.0 / event_size))


class Particles(NamedTuple):
    """Equally weighted particles near p.

    Attributes:
        u: [N, D].
        log_prob: [N].
        gradient: [N, D], of ``log_prob``.
        log_evidence: estimate of log Z, nats.
        num_stages: temperatures used.
        acceptance: of the last Hamiltonian moves.
        beta: inverse temperature reached; 1 unless the stages ran out.
    """

    u: Tensor
    log_prob: Tensor
    gradient: Tensor
    log_evidence: Tensor
    num_stages: Tensor
    acceptance: Tensor
    beta: Tensor


class Start(NamedTuple):
    """Where particles begin, made outside the compiled loop: XLA would compile a second copy of the density for it.

    Attributes:
        points: [N, D] from N(0, scale^2 I).
        uniforms: [max_stages], for systematic resampling.
    """

    points: Points
    uniforms: Tensor


class _State(NamedTuple):
    points: Points
    beta: Tensor
    step_size: Tensor
    log_evidence: Tensor
    stage: Tensor
    acceptance: Tensor


def start(
    value_and_gradient: ValueAndGradient,
    event_size: int,
    *,
    seed: Seed,
    num_particles: int = 1_024,
    scale: float | None = None,
    max_stages: int = 60,
) -> Start:
    """``num_particles`` draws from N(0, scale^2 I) in D = ``event_size`` dimensions, for ``sample``."""
    scale = default_scale(event_size) if scale is None else scale
    u = scale * normal([num_particles], event_size, seed)
    uniforms = tf.random.stateless_uniform([max_stages], fold_in(seed, 1), alg="philox")
    return Start(Points(u, *value_and_gradient(u)), uniforms)


def sample(
    value_and_gradient: ValueAndGradient,
    start: Start,
    *,
    seed: Seed,
    scale: float | None = None,
    ess_ratio: float = 0.5,
    num_moves: int = 3,
    num_leapfrog: int = 8,
    num_final_moves: int = 8,
) -> Particles:
    """Particles from N(0, scale^2 I) to p. Call it inside ``tf.function(jit_compile=True)``.

    Args:
        value_and_gradient: [N, D] -> ([N], [N, D]) of log p; -inf with a zero gradient where p is not finite.
        start: from the function of that name; its ``uniforms`` bound the number of temperatures.
        seed: stateless seed [2], the one of ``start``.
        scale: standard deviation of the start, in whitened coordinates; that of ``start``.
        ess_ratio: effective sample size, relative to N, that the next temperature keeps.
        num_moves: Hamiltonian transitions per temperature.
        num_leapfrog: most leapfrog steps per transition; the number is drawn anew each time.
        num_final_moves: transitions at beta = 1.
    """
    num_particles, event_size = start.points.u.shape
    max_stages = start.uniforms.shape[0]
    log_size = math.log(num_particles)
    scale = default_scale(event_size) if scale is None else scale
    constant = event_size * (0.5 * math.log(2.0 * math.pi) + math.log(scale))

    def log_start(u: Tensor) -> Tensor:
        return -0.5 * tf.reduce_sum(u**2, -1) / scale**2 - constant

    def next_beta(increments: Tensor, beta: Tensor) -> Tensor:
        """Largest step that keeps the effective sample size, by bisection."""

        def enough(step: Tensor) -> Tensor:
            log_weights = step * increments
            log_ess = 2.0 * tf.reduce_logsumexp(log_weights) - tf.reduce_logsumexp(2.0 * log_weights)
            return log_ess > math.log(ess_ratio) + log_size

        def halve(i: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            middle = 0.5 * (low + high)
            good = enough(middle)
            return i + 1, tf.where(good, middle, low), tf.where(good, high, middle)

        whole = 1.0 - beta
        _, low, _ = tf.while_loop(lambda i, *_: i < 25, halve, (0, tf.zeros([]), whole))
        step = tf.where(enough(whole), whole, tf.maximum(low, 1e-6))
        return tf.minimum(beta + step, 1.0)

    def leap(state: _State, beta: Tensor, seed: Tensor) -> _State:
        """One Hamiltonian transition of all particles at temperature beta."""
        noise = normal([num_particles + 1], event_size + 1, seed)
        uniform = 0.5 * tf.math.erfc(-noise[:, 0] / math.sqrt(2.0))
        momentum, accept = noise[:-1, 1:], uniform[:-1]
        shortest = (num_leapfrog + 1) // 2
        length = shortest + tf.cast(uniform[-1] * (num_leapfrog + 1 - shortest), tf.int32)

        def tempered(points: Points) -> tuple[Tensor, Tensor]:
            value = beta * points.log_prob + (1.0 - beta) * log_start(points.u)
            return value, beta * points.gradient - (1.0 - beta) * points.u / scale**2

        end, log_ratio = propose(
            value_and_gradient,
            state.points,
            momentum,
            step=state.step_size,
            num_leapfrog=length,
            tempered=tempered,
        )
        accepted = tf.math.log(accept) < log_ratio
        acceptance = tf.reduce_mean(tf.exp(tf.minimum(log_ratio, 0.0)))
        return state._replace(
            points=end.where(accepted, state.points),
            step_size=state.step_size * tf.exp(0.5 * (acceptance - 0.8)),
            acceptance=acceptance,
        )

    def stage(state: _State) -> _State:
        increments = state.points.log_prob - log_start(state.points.u)
        beta = next_beta(increments, state.beta)
        log_weights = (beta - state.beta) * increments
        total = tf.reduce_logsumexp(log_weights)
        stage_seed = fold_in(seed, _STRIDE * (state.stage + 1))
        positions = (tf.range(num_particles, dtype=tf.float32) + start.uniforms[state.stage]) / num_particles
        ancestors = tf.searchsorted(tf.cumsum(tf.exp(log_weights - total)), positions)
        ancestors = tf.minimum(ancestors, num_particles - 1)
        state = state._replace(
            points=Points(*(tf.gather(part, ancestors) for part in state.points)),
            beta=beta,
            log_evidence=state.log_evidence + total - log_size,
            stage=state.stage + 1,
        )
        moves = tf.where(beta < 1.0, num_moves, num_final_moves)

        def move(i: Tensor, state: _State) -> tuple[Tensor, _State]:
            return i + 1, leap(state, beta, fold_in(stage_seed, i + 1))

        return tf.while_loop(lambda i, _: i < moves, move, (tf.constant(0), state))[1]

    step_size = tf.constant(0.5 * min(1.0, event_size**-0.25))
    first = _State(start.points, tf.zeros([]), step_size, tf.zeros([]), tf.constant(0), tf.zeros([]))
    (end,) = tf.while_loop(
        lambda state: (state.beta < 1.0) & (state.stage < max_stages), lambda state: (stage(state),), (first,)
    )
    u, log_prob, gradient = end.points
    return Particles(u, log_prob, gradient, end.log_evidence, end.stage, end.acceptance, end.beta)
