"""Draws of a mixture, moved towards the target by short Hamiltonian chains."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from neural_vb import mixtures, polish
from neural_vb._types import Array, Tensor
from neural_vb.compilation import slices
from neural_vb.mixtures import Stream
from neural_vb.whitening import Frame, TracedTarget


class Mover:
    """Chains in any coordinates, compiled once for each kind of coordinates.

    They run with as many points at once as the density was traced for. A quarter of them are draws whose acceptance
    gives the step size, in each run the same; the others come in their turn.

    Args:
        density: traced.
        seed: of the chains.
    """

    def __init__(self, density: TracedTarget, seed: int) -> None:
        self.seed = seed
        self.num_tuning = density.num // 4
        self.num_at_once = density.num - self.num_tuning

        def value_and_gradient(u: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
            log_prob, gradient = density(u[:, 0], frame)
            return log_prob[:, tf.newaxis], gradient[:, tf.newaxis]

        self._runs = {jit: polish.Transitions(value_and_gradient, jit_compile=jit) for jit in (True, False)}

    def __call__(
        self, frame: Frame, jit_compile: bool, u: Array, look: int, num_transitions: int
    ) -> tuple[Array, Array]:
        """Draws u [N, D] -> their ends [N', D] and log p there [N'], without the tuning ones and where it is finite.

        Args:
            frame: coordinates of the draws.
            jit_compile: run under XLA.
            u: the first of them tune the step size.
            look: index of the call, for its noise.
            num_transitions: of each chain.
        """
        tuning, rest = np.split(u.astype(np.float32)[:, np.newaxis], [self.num_tuning])
        start = polish.Coordinates(*(tf.constant(part, tf.float32) for part in polish.coordinates(tuning)))
        ends, log_prob = [], []
        for rows in slices(len(rest), self.num_at_once):
            key = mixtures.fold_in([self.seed, len(u) * look + int(rows[0])], Stream.MOVES)
            found = polish.polish(
                self._runs[jit_compile],
                *(tf.constant(rest[rows]), tf.constant(tuning)),
                start,
                frame,
                seed=key,
                num_transitions=num_transitions,
            )
            ends.append(found.u.numpy()[:, 0].astype(np.float64))
            log_prob.append(found.log_prob.numpy()[:, 0].astype(np.float64))
        moved, values = np.concatenate(ends)[: len(rest)], np.concatenate(log_prob)[: len(rest)]
        finite = np.isfinite(values)
        return moved[finite], values[finite]
