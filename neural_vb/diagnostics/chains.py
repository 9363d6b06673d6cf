"""Compiled transitions and scores of one target, for all checks of it: each is compiled once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from neural_vb import bending, polish
from neural_vb._types import Array, Tensor
from neural_vb.bending import Bend
from neural_vb.compilation import slices
from neural_vb.whitening import WhitenedTarget, only_finite

WIDTH = 2_048  # chains at once
NUM_TUNING = 128  # more of them, from other draws, that set the step size
NUM_PARTS = 8  # of all these, which move side by side


class Ends(NamedTuple):
    """Where chains ended.

    Attributes:
        u: [S, D], whitened.
        log_prob: [S], nats, the target's offset taken off.
        acceptance: mean over chains and transitions.
        step_size: [1], at the end, in which further transitions may begin to tune it.
    """

    u: Array
    log_prob: Array
    acceptance: float
    step_size: Array


class Kernel(NamedTuple):
    """What chains must not have from their own draws.

    Attributes:
        tuning: y [NUM_TUNING, 1, D], float32: the step size follows the acceptance of chains from here.
        coordinates: in which draws are about standard.
        step_size: [1], sds, where tuning begins.
        bend: the curved map from y to u; None where y = u.
    """

    tuning: Array
    coordinates: polish.Coordinates
    step_size: Array
    bend: Bend | None = None


def first_step(event_size: int) -> Array:
    """[1], sds: less than half of what is tuned to where draws are Gaussian."""
    return np.full(1, event_size**-0.25)


def kernel(u: Array, bend: Bend | None = None) -> Kernel:
    """From draws [S, D] of which none begins a chain."""
    wide = np.asarray(u if bend is None else bend.inverse(u)[0])
    wide = wide[np.isfinite(wide).all(1), np.newaxis]
    tuning = wide[np.arange(NUM_TUNING) % len(wide)].astype(np.float32)
    return Kernel(tuning, polish.coordinates(wide), first_step(wide.shape[-1]), bend)


@dataclass(frozen=True, eq=False)
class Chains:
    """Hamiltonian chains and scores of a target.

    Attributes:
        target: in whitened coordinates.
        jit_compile: use XLA.
    """

    target: WhitenedTarget
    jit_compile: bool = True

    @property
    def is_compiled(self) -> bool:
        """Whether transitions in straight coordinates are, or have begun to be."""
        return "_run" in vars(self)

    def run(self, u: Array, kernel: Kernel, *, num_transitions: int, seed: Any) -> Ends:
        """Transitions of all draws u [S, D], ``WIDTH`` at a time."""
        bend = kernel.bend
        y = u if bend is None else bend.inverse(np.asarray(u, np.float64))[0]
        ends, log_prob, _, acceptance, step_size = self._pieces(y, kernel, num_transitions, seed)
        if bend is not None:
            ends, log_det = (part.numpy() for part in bend.forward(tf.constant(ends, tf.float64)))
            # Where the inverse map has no finite value a chain stays, without density.
            lost = ~np.isfinite(ends).all(1)
            ends[lost], log_prob = u[lost], np.where(lost, -np.inf, log_prob - log_det)
        return Ends(ends, log_prob, float(acceptance), step_size)

    def look(self, u: Array) -> tuple[Array, Array]:
        """log p [S], its offset taken off, and scores [S, D] at u [S, D]: -inf and zero where not finite."""
        # Chains that stay where they are: what is compiled for transitions serves here too.
        size = u.shape[-1]
        still = polish.Coordinates(np.zeros([1, size]), np.eye(size)[np.newaxis])
        where = Kernel(np.resize(u, [NUM_TUNING, 1, size]).astype(np.float32), still, first_step(size))
        found = self._pieces(u, where, 0, 0)
        return found.log_prob.astype(np.float64), found.score

    def _pieces(self, y: Array, kernel: Kernel, num_transitions: int, seed: Any) -> polish.Polished:
        """In NumPy, one data set's: [S, D], [S], [S, D], the mean acceptance, and the step size [1]."""
        run = self._run if kernel.bend is None else self._run_bent
        start = polish.Coordinates(*(tf.constant(part, tf.float32) for part in kernel.coordinates))
        bend = None if kernel.bend is None else Bend(*(tf.constant(part, tf.float32) for part in kernel.bend))
        pieces, rates, step_size = [], [], tf.constant(kernel.step_size, tf.float32)
        for number, rows in enumerate(slices(len(y), WIDTH)):
            key = np.random.SeedSequence([*np.atleast_1d(seed), number]).generate_state(2).view(np.int32)
            piece = tf.constant(y[rows, np.newaxis], tf.float32)
            found = polish.polish(
                run,
                piece,
                tf.constant(kernel.tuning),
                start,
                bend,
                seed=key,
                num_transitions=num_transitions,
                step_size=step_size,
            )
            step_size = found.step_size
            pieces.append([part.numpy()[:, 0] for part in (found.u, found.log_prob, found.score)])
            rates.append(float(found.acceptance[0]))
        ends, log_prob, score = (np.concatenate(part)[: len(y)] for part in zip(*pieces, strict=True))
        return polish.Polished(ends, log_prob, score, np.mean(rates), step_size.numpy())

    @cached_property
    def _run(self) -> polish.Transitions:
        evaluate = self.target.value_and_gradient
        return self._transitions(lambda u, _: evaluate(u))

    @cached_property
    def _run_bent(self) -> polish.Transitions:
        evaluate = self.target.value_and_gradient

        def density(y: Tensor, bend: Bend) -> tuple[Tensor, Tensor]:
            return only_finite(*bending.pulled_back((bend,), y, evaluate))

        return self._transitions(density)

    def _transitions(self, density: polish.Density) -> polish.Transitions:
        # In parts: most densities keep one core busy, and few chains its cache.
        return polish.Transitions(density, jit_compile=self.jit_compile, reach=polish.REACH, num_parts=NUM_PARTS)
