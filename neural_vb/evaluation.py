"""What a trained sampler is asked for: draws, an estimate of its log density, and the ELBO."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from neural_vb._text import with_error
from neural_vb._types import Array, Draws, Parameters, Seed, Tensor
from neural_vb.avb import Parts, contrast_density, critic_logits
from neural_vb.compilation import Compiled, slices
from neural_vb.errors import EventShapeError
from neural_vb.mixtures import Stream, fold_in
from neural_vb.whitening import WhitenedTarget

CHUNK = 32_768
SLICE = 1_024  # draws per evaluation of densities; a target's may hold an intermediate result for each row of data


class Estimate(NamedTuple):
    """A Monte Carlo estimate in nats, and its standard error."""

    value: float
    standard_error: float

    def __str__(self) -> str:
        return with_error(self.value, self.standard_error)


def _rows(z: Tensor) -> Array:
    """[n, D] as an array; ``EventShapeError`` for a single point, or with more axes."""
    z = np.asarray(z)
    if z.ndim != 2:
        raise EventShapeError(
            expected="draws on the first axis of every part",
            got="a single point" if z.ndim < 2 else f"{z.ndim - 1} axes before the event's",
            fix="add the axis: draws[np.newaxis], or so for each part"
            if z.ndim < 2
            else "flatten them: draws.reshape(-1, *event_shape), or so for each part",
        )
    return z


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A sampler with its parameters, in unconstrained space. Draws come in chunks of fixed size, traced once.

    Attributes:
        parts: sampler, critic and contrast.
        parameters: theirs.
        target: in whitened coordinates.
    """

    parts: Parts
    parameters: Parameters
    target: WhitenedTarget

    def draws(self, num_draws: int, seed: int, stream: Stream = Stream.DRAWS) -> Iterator[Tensor]:
        """Chunks of draws z [n, D], float64, ``num_draws`` in all; fewer draws are a prefix of more, by seed."""
        for index in range(math.ceil(num_draws / CHUNK)):
            z = self._draw(self.parameters["sampler"], fold_in([seed, index], stream))
            yield z[: min(CHUNK, num_draws - index * CHUNK)]

    def log_q(self, z: Tensor) -> Array:
        """Estimate of log q in unconstrained space, log r + T, [n, D] -> [n] in nats."""
        u, log_det = self.target.whitening.inverse(_rows(z))
        # Too far out for a map, or for single precision, nothing is drawn.
        inside = np.isfinite(log_det) & (np.abs(u) < np.finfo(np.float32).max).all(-1)
        u = np.where(inside[..., np.newaxis], u, 0.0)
        log_r, logits = self.judge(u)
        return np.where(inside, log_r + logits - np.where(inside, log_det, 0.0), -np.inf)

    def judge(self, u: Array) -> tuple[Array, Array]:
        """log r and the critic's T at whitened u [n, D], float64 of float32, [n] each; their sum stands for log q."""
        pieces = [np.zeros([2, 0])]
        for rows in slices(len(u), SLICE):
            pieces.append(np.stack(self._judge(self.parameters, tf.constant(u[rows], tf.float32))))
        log_r, logits = np.concatenate(pieces, 1)[:, : len(u)]
        return log_r, logits

    def log_p(self, z: Tensor) -> Array:
        """The target's log density, [n, D] -> [n] in nats; -inf where z is not finite, as it is off most supports."""
        z = _rows(z)
        pieces: list[Array] = [np.zeros(0, np.float32)]
        for rows in slices(len(z), SLICE):
            pieces.append(self._log_p(tf.constant(z[rows], self.target.target.dtype)).numpy())
        return np.where(np.isfinite(z).all(-1), np.concatenate(pieces)[: len(z)], -np.inf)

    def elbo(self, num_draws: int, seed: int) -> Estimate:
        """E_q[log p - log r - T] over fresh draws with a finite log density."""
        terms = [self._terms(z) for z in self.draws(num_draws, seed, Stream.ELBO)]
        values = np.concatenate(terms)
        values = values[np.isfinite(values)]
        if not values.size:
            return Estimate(math.nan, math.nan)
        return Estimate(float(values.mean()), float(values.std() / math.sqrt(values.size)))

    def _terms(self, z: Tensor) -> Array:
        return self.log_p(z).astype(np.float64) - self.log_q(z)

    @cached_property
    def _draw(self) -> Compiled:
        def draw(parameters: Parameters, seed: Seed) -> Tensor:
            return self.target.whitening.to_z(self.parts.sampler(parameters, CHUNK, None, seed).z[:, 0])

        # XLA compiles this for longer than the plain graph takes for a million draws.
        return Compiled(draw, jit_compile=False)

    def constrain(self, z: Tensor) -> Draws:
        """z [n, D] -> structure of draws, in the target's precision."""
        return self._constrain(tf.cast(z, self.target.target.dtype))

    @cached_property
    def _constrain(self) -> Compiled:
        return Compiled(self.target.target.constrain, jit_compile=False)

    @cached_property
    def _log_p(self) -> Compiled:
        def log_p(z: Tensor) -> Tensor:
            return self.target.target.log_prob(z[:, tf.newaxis])[:, 0]

        return Compiled(log_p, jit_compile=False)

    @cached_property
    def _judge(self) -> Compiled:
        parts = self.parts

        def judge(parameters: Parameters, u: Tensor) -> tuple[Tensor, Tensor]:
            u, contrast = u[:, tf.newaxis], contrast_density(parts, parameters, None)
            logits = critic_logits(parts, parameters["critic"], contrast, u, None)
            return contrast.log_prob(u)[:, 0], logits[:, 0]

        return Compiled(judge, jit_compile=False)
