"""Maximum likelihood on pairs (z, x) from a joint: how an amortised posterior gets its start.

Papamakarios & Murray (arXiv 1605.06376): maximising E[log r(z | x)] over the joint minimises
E_x KL(p(z | x) || r(z | x)). It covers every mode before the adversarial steps, which seek modes, begin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from neural_vb._types import Parameters, Tensor
from neural_vb.compilation import Compiled
from neural_vb.optimiser import Adam, Layout, Schedule, TrainingState, initial_state

Pairs = Callable[[int, int], tuple[Tensor, Tensor]]


def fit_density(
    log_density: Callable[[Parameters, Tensor, Tensor], Tensor],
    parameters: Parameters,
    pairs: Pairs,
    *,
    num_steps: int,
    window: int = 200,
    rate: float = 1e-3,
    jit_compile: bool = True,
    callbacks: Sequence[Callable[[int, float], object]] = (),
) -> tuple[Parameters, np.ndarray]:
    """Parameters that maximise the mean of ``log_density`` over fresh pairs, by Adam with a rate that falls to zero.

    Args:
        log_density: (parameters, z [B, D], x [B, X]) -> [B] in nats.
        parameters: nested, at the start: a dict of groups.
        pairs: (step, T) -> z [T, B, D] and x [T, B, X], float32, for the T steps from ``step`` on.
        num_steps: rounded up to whole windows; the rate falls linearly over the second half.
        window: steps per compiled call.
        rate: of Adam.
        jit_compile: try XLA.
        callbacks: called with (step, mean log density) after each window.

    Returns:
        The averaged parameters, and the mean log density of each window, in nats.
    """
    layout = Layout(parameters)
    adam = Adam(np.full(sum(layout.groups.values()), rate, np.float32), 0.9, 0.999, 0.998, 3.0)
    num_windows = -(-num_steps // window)
    schedule = Schedule(
        tf.constant(num_windows * window // 2), tf.constant(num_windows * window - num_windows * window // 2)
    )

    def step(state: TrainingState, z: Tensor, x: Tensor) -> tuple[TrainingState, Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(state.parameters)
            mean = tf.reduce_mean(log_density(layout.unpack(state.parameters), z, x))
        gradient = -tape.gradient(mean, state.parameters)
        new = adam.moments(state, adam.cut(state, gradient, state.second_moment))
        new = new._replace(parameters=state.parameters - adam.change(new, schedule.rate(state.step)))
        new = new._replace(average=adam.average(new))
        usable = tf.reduce_all(tf.math.is_finite(new.parameters))
        kept = TrainingState(*(tf.where(usable, a, b) for a, b in zip(new, state, strict=True)))
        return kept._replace(step=state.step + 1), mean

    def run(state: TrainingState, z: Tensor, x: Tensor) -> tuple[TrainingState, Tensor]:
        def body(done: Tensor, state: TrainingState, total: Tensor) -> tuple[Tensor, TrainingState, Tensor]:
            state, mean = step(state, z[done], x[done])
            return done + 1, state, total + mean

        start = (tf.constant(0), state, tf.zeros([]))
        _, state, total = tf.while_loop(lambda done, *_: done < window, body, start)
        return state, total / window

    compiled = Compiled(run, jit_compile=jit_compile)
    state, means = initial_state(layout, parameters), []
    for index in range(num_windows):
        state, mean = compiled(state, *pairs(index * window, window))
        means.append(float(mean))
        for callback in callbacks:
            callback((index + 1) * window, means[-1])
    return layout.unpack(state.average), np.array(means)
