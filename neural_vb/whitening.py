"""Whitened coordinates u, in which every target is about standard: z = shift + scale_tril u, and bends after that."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from neural_vb import bending
from neural_vb._types import Array, Draws, Target, Tensor
from neural_vb.bending import Map
from neural_vb.compilation import graph


@dataclass(frozen=True, eq=False)
class Whitening:
    """y = shift + scale_tril u, then z by the bends, the last one first; in float64. Without bends z = y.

    Attributes:
        shift: [D].
        scale_tril: [D, D], lower triangular with a positive diagonal.
        bends: curved maps from y to z.
    """

    shift: Array
    scale_tril: Array
    bends: tuple[Map, ...] = field(default=(), repr=False)

    @property
    def event_size(self) -> int:
        """D."""
        return len(self.shift)

    @property
    def log_det(self) -> float:
        """log |det dy/du|, nats: all of it without bends."""
        return float(np.log(np.diag(self.scale_tril)).sum())

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """u [..., D] -> z [..., D], log |det dz/du| [...], float64: float32 has no small scales at a large shift."""
        y = tf.tensordot(tf.cast(u, tf.float64), tf.constant(self.scale_tril.T), 1) + tf.constant(self.shift)
        z, log_det = bending.forward(self.bends, y)
        return z, log_det + self.log_det

    def inverse(self, z: Array) -> tuple[Array, Array]:
        """z [..., D] -> u [..., D], log |det dz/du| [...], NumPy float64."""
        z = np.asarray(z, np.float64)
        y, log_det = bending.inverse(self.bends, z.reshape(-1, self.event_size))
        u = np.linalg.solve(self.scale_tril, (y - self.shift).T).T
        return u.reshape(z.shape), log_det.reshape(z.shape[:-1]) + self.log_det

    def to_z(self, u: Tensor) -> Tensor:
        """[..., D] -> [..., D], float64."""
        return self.forward(u)[0]

    def to_u(self, z: Array) -> Array:
        """[..., D] -> [..., D], NumPy float64."""
        return self.inverse(z)[0]


class Frame(NamedTuple):
    """A whitening and an offset as float64 tensors: arguments of compiled functions, which as constants compile anew.

    Attributes:
        shift: [D].
        scale_tril: [D, D].
        bends: from y to z.
        offset: subtracted from log p, nats.
    """

    shift: Tensor
    scale_tril: Tensor
    bends: tuple[Map, ...]
    offset: Tensor

    @classmethod
    def of(cls, whitening: Whitening, offset: float) -> Frame:
        """Of a density in u or, with the whitening's ``log_det`` added to the offset, of that in y."""
        return tf.nest.map_structure(
            lambda part: tf.constant(part, tf.float64),
            cls(whitening.shift, whitening.scale_tril, whitening.bends, offset - whitening.log_det),
        )

    def pulled_back(
        self, u: Tensor, dtype: tf.DType, evaluate: Callable[[Tensor], tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """log p of u [..., D] and its gradient in u, less the offset, float32.

        The target's own gradient is found first: of one through target and maps together XLA makes slower code, and
        takes longer.

        Args:
            u: where.
            dtype: the target's precision.
            evaluate: z [..., D] in that -> log p [...] and its gradient [..., D].
        """

        def in_z(z: Tensor) -> tuple[Tensor, Tensor]:
            log_prob, gradient = evaluate(tf.cast(z, dtype))
            return tf.cast(log_prob, tf.float64) - self.offset, tf.cast(gradient, tf.float64)

        y = tf.tensordot(tf.cast(u, tf.float64), tf.transpose(self.scale_tril), 1) + self.shift
        log_prob, gradient = bending.pulled_back(self.bends, y, in_z)
        return tf.cast(log_prob, tf.float32), tf.cast(tf.tensordot(gradient, self.scale_tril, 1), tf.float32)


def value_and_gradient(log_prob: Callable[[Tensor], Tensor], z: Tensor) -> tuple[Tensor, Tensor]:
    """log p [...] at z [..., D], and its gradient [..., D]."""
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = log_prob(z)
    return value, tf.convert_to_tensor(tape.gradient(value, z))


class TracedTarget:
    """log p and its gradient at ``num`` points, in any coordinates: a user's density is traced once for all of them.

    Traced outside of all compiled functions. Inside one tf.vectorized_map (in every AutoBatched joint) makes a call
    whose gradient passes shapes on, TensorFlow then takes all arguments for compile-time constants, and XLA compiles
    anew for every start. Call it inside ``graph`` or ``Compiled``.

    Args:
        target: for one data set.
        num: of points at once, N; a user's function may look at it.
    """

    def __init__(self, target: Target, num: int) -> None:
        self.target, self.num = target, num

        in_z = functools.partial(value_and_gradient, lambda z: target.log_prob(z[:, tf.newaxis])[:, 0])
        spec = tf.TensorSpec([num, target.event_size], target.dtype)
        self._in_z = graph(in_z).get_concrete_function(spec)
        self._values = graph(lambda u, frame: self._evaluate(u, frame)[0])  # TensorFlow leaves the gradient out

    def __call__(self, u: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
        """u [N, D] -> log p [N], its gradient in u [N, D], float32; -inf and zero where either is not finite."""
        return only_finite(*self._evaluate(u, frame))

    def values(self, u: Array, frame: Frame) -> Array:
        """u [M, D] -> log p [M], NumPy float64 of float32; M is a multiple of N."""
        pieces = np.split(u.astype(np.float32), len(u) // self.num)
        return np.concatenate([self._values(tf.constant(piece), frame).numpy() for piece in pieces]).astype(np.float64)

    def _evaluate(self, u: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
        return frame.pulled_back(u, self.target.dtype, self._in_z)


@dataclass(frozen=True, eq=False)
class WhitenedTarget:
    """log p(x, z(u)) + log |det dz/du| - offset, a float32 target in u.

    The offset is subtracted in the target's own precision, so that what reaches float32 is small.

    Attributes:
        target: in z.
        whitening: from u to z.
        offset: in nats; add it back to any log density or ELBO computed here.
        max_score: longest gradient of one draw that is let through. Scores longer than any at the warm start's
            particles come from strays and would unsettle Adam for a thousand steps.
    """

    target: Target
    whitening: Whitening
    offset: float = 0.0
    max_score: float = np.inf

    @property
    def event_size(self) -> int:
        """D."""
        return self.whitening.event_size

    @property
    def dtype(self) -> tf.DType:
        """float32, whatever the target's own precision."""
        return tf.float32

    def log_prob(self, u: Tensor, x: Tensor | None = None) -> Tensor:
        """[S, B, D] -> [S, B]; its gradient in u is finite and at most ``max_score`` long per draw."""
        if np.isinf(self.max_score):
            return self._log_prob(u, x)
        # Linear in u around a frozen point, by the bounded score. TensorFlow would keep every trace of the same written
        # as a tf.custom_gradient for ever.
        frozen = tf.stop_gradient(u)
        log_prob, score = self._evaluate(frozen, x)
        score = tf.stop_gradient(self._bounded(score))
        return log_prob + tf.reduce_sum(score * (u - frozen), -1)

    def value_and_gradient(self, u: Tensor, x: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """[S, B, D] -> ([S, B], [S, B, D]), or [N, D] -> ([N], [N, D]) for one data set.

        The gradient as it is, not shortened to ``max_score``; -inf and a zero gradient where either is not finite.
        """
        if len(u.shape) == 2:
            return tf.nest.map_structure(lambda part: part[:, 0], self.value_and_gradient(u[:, tf.newaxis], x))
        return only_finite(*self._evaluate(u, x))

    def constrain(self, u: Tensor) -> Draws:
        """[..., D] -> structure of draws."""
        return self.target.constrain(tf.cast(self.whitening.to_z(u), self.target.dtype))

    def _evaluate(self, u: Tensor, x: Tensor | None) -> tuple[Tensor, Tensor]:
        in_z = functools.partial(value_and_gradient, lambda z: self.target.log_prob(z, x))
        return Frame.of(self.whitening, self.offset).pulled_back(u, self.target.dtype, in_z)

    def _log_prob(self, u: Tensor, x: Tensor | None) -> Tensor:
        z, log_det = self.whitening.forward(u)
        log_prob = tf.cast(self.target.log_prob(tf.cast(z, self.target.dtype), x), tf.float64)
        return tf.cast(log_prob + (log_det - self.offset), tf.float32)

    def _bounded(self, score: Tensor) -> Tensor:
        """Scores [..., D], finite and at most ``max_score`` long."""
        usable = tf.reduce_all(tf.math.is_finite(score), -1, keepdims=True)
        score = tf.where(usable, score, 0.0)
        return score * tf.minimum(1.0, self.max_score / (tf.norm(score, axis=-1, keepdims=True) + 1e-30))


def only_finite(log_prob: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """[...], [..., D] -> the same, but -inf and a zero gradient where either is not finite."""
    usable = tf.math.is_finite(log_prob) & tf.reduce_all(tf.math.is_finite(gradient), -1)
    return tf.where(usable, log_prob, -np.inf), tf.where(usable[..., tf.newaxis], gradient, 0.0)


def longest(score: Tensor | Array) -> float:
    """The largest norm of scores [..., D], for ``WhitenedTarget.max_score``."""
    return float(tf.reduce_max(tf.norm(score, axis=-1)))
