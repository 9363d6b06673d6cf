"""One Hamiltonian transition of many points at once (Neal, "MCMC using Hamiltonian dynamics", arXiv 1206.1901).

Written out, and not TFP's, so that a compiled loop holds one copy of the density's gradient and points keep theirs from
one transition to the next.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from neural_vb._types import Tensor

ValueAndGradient = Callable[..., tuple[Tensor, Tensor]]


class Points(NamedTuple):
    """Where chains are.

    Attributes:
        u: [..., D].
        log_prob: [...].
        gradient: [..., D], of ``log_prob``.
    """

    u: Tensor
    log_prob: Tensor
    gradient: Tensor

    def where(self, chosen: Tensor, others: Points) -> Points:
        """These where ``chosen`` [...], else the others."""
        wide = chosen[..., tf.newaxis]
        return Points(
            tf.where(wide, self.u, others.u),
            tf.where(chosen, self.log_prob, others.log_prob),
            tf.where(wide, self.gradient, others.gradient),
        )


def untempered(points: Points) -> tuple[Tensor, Tensor]:
    """log p and its gradient as they are."""
    return points.log_prob, points.gradient


def propose(
    value_and_gradient: ValueAndGradient,
    points: Points,
    momentum: Tensor,
    *,
    step: Tensor,
    num_leapfrog: Tensor,
    tempered: Callable[[Points], tuple[Tensor, Tensor]] = untempered,
    fixed: Any = (),
) -> tuple[Points, Tensor]:
    """Where the leapfrog integrator arrives, and the log of the ratio at which Metropolis accepts that, [...].

    Args:
        value_and_gradient: [..., D] -> ([...], [..., D]) of log p; it is given ``fixed`` too.
        points: at the start.
        momentum: [..., D], standard normal.
        step: scalar or [..., 1].
        num_leapfrog: number of steps.
        tempered: the points' target of this transition and its gradient, where that is not p.
        fixed: a tuple of what the density is computed from, structures of tensors.
    """

    def leapfrog(i: Tensor, points: Points, momentum: Tensor, *held: Any) -> tuple[Any, ...]:
        # Of what does not change in a loop XLA may want the values, and compile anew for each: it must not know.
        step, fixed = held = tf.nest.map_structure(lambda part: tf.where(i < 0, tf.zeros_like(part), part), held)
        momentum += 0.5 * step * tempered(points)[1]
        u = points.u + step * momentum
        points = Points(u, *value_and_gradient(u, *fixed))
        return i + 1, points, momentum + 0.5 * step * tempered(points)[1], *held

    state = tf.constant(0), points, momentum, step, fixed
    end, last = tf.while_loop(lambda i, *_: i < num_leapfrog, leapfrog, state)[1:3]

    def energy(points: Points, momentum: Tensor) -> Tensor:
        return tempered(points)[0] - 0.5 * tf.reduce_sum(momentum**2, -1)

    arrived = energy(end, last)
    # A point without density, at -inf, accepts whatever has one.
    return end, tf.where(tf.math.is_finite(arrived), arrived - energy(points, momentum), -math.inf)
