"""Compiled transitions and scores of one target, for all checks of it: each is compiled once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from neural_vb import polish
from neural_vb._types import Array, Tensor
from neural_vb.compilation import Compiled
from neural_vb.whitening import WhitenedTarget

WIDTH = 2_048  # chains of one compiled call
NUM_TUNING = 128  # more of them, from other draws, that set the step size


class Ends(NamedTuple):
    """Where chains ended.

    Attributes:
        u: [S, D], whitened.
        log_prob: [S], nats, the target's offset taken off.
        acceptance: mean over chains and transitions.
    """

    u: Array
    log_prob: Array
    acceptance: float


class Kernel(NamedTuple):
    """What chains must not have from their own draws.

    Attributes:
        tuning: u [NUM_TUNING, 1, D], float32: the step size follows the acceptance of chains from here.
        coordinates: in which draws are about standard.
    """

    tuning: Array
    coordinates: polish.Coordinates


def kernel(u: Array) -> Kernel:
    """From draws [S, D] of which none begins a chain."""
    wide = np.asarray(u)[:, np.newaxis]
    return Kernel(wide[np.arange(NUM_TUNING) % len(wide)].astype(np.float32), polish.coordinates(wide))


@dataclass(frozen=True, eq=False)
class Chains:
    """Hamiltonian chains and scores of a target.

    Attributes:
        target: in whitened coordinates.
        jit_compile: use XLA.
    """

    target: WhitenedTarget
    jit_compile: bool = True

    def run(self, u: Array, kernel: Kernel, *, num_transitions: int, seed: Any) -> Ends:
        """Transitions of all draws u [S, D], ``WIDTH`` at a time."""
        start = polish.Coordinates(*(tf.constant(part, tf.float32) for part in kernel.coordinates))
        ends = []
        for number, begin in enumerate(range(0, len(u), WIDTH)):
            rows = np.arange(begin, begin + WIDTH) % len(u)  # the last is filled up: one shape, one compilation
            key = np.random.SeedSequence([*np.atleast_1d(seed), number]).generate_state(2).view(np.int32)
            piece = tf.constant(u[rows, np.newaxis], tf.float32)
            arguments = (piece, tf.constant(kernel.tuning), start, tf.constant(key), tf.constant(num_transitions))
            found = self._run(*arguments)
            num = min(WIDTH, len(u) - begin)
            ends.append([found.u.numpy()[:num, 0], found.log_prob.numpy()[:num, 0], float(found.acceptance[0])])
        ends_u, log_prob, acceptance = zip(*ends, strict=True)
        return Ends(np.concatenate(ends_u), np.concatenate(log_prob), float(np.mean(acceptance)))

    @cached_property
    def _run(self) -> Compiled:
        def run(u: Tensor, tuning: Tensor, start: Any, seed: Tensor, num_transitions: Tensor) -> polish.Polished:
            density = self.target.value_and_gradient
            return polish.polish(density, u, tuning, start, None, seed=seed, num_transitions=num_transitions)

        return Compiled(run, jit_compile=self.jit_compile)

    def look(self, u: Array) -> tuple[Array, Array]:
        """log p [S], its offset taken off, and scores [S, D] at u [S, D]: -inf and zero where not finite."""
        pieces = []
        for begin in range(0, len(u), WIDTH):
            rows = np.arange(begin, begin + WIDTH) % len(u)
            value, score = self._look(tf.constant(u[rows], tf.float32))
            num = min(WIDTH, len(u) - begin)
            pieces.append((value.numpy()[:num].astype(np.float64), score.numpy()[:num]))
        values, scores = zip(*pieces, strict=True)
        return np.concatenate(values), np.concatenate(scores)

    @cached_property
    def _look(self) -> Compiled:
        return Compiled(lambda u: self.target.value_and_gradient(u), jit_compile=False)
