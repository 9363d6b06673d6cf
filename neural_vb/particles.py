"""Particles: sequential Monte Carlo from any Gaussian, repeated from its own moments until these rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from neural_vb import bending, gaussian_mixture, mixtures, smc
from neural_vb._types import Array
from neural_vb.bending import Map
from neural_vb.compilation import Compiled, graph
from neural_vb.errors import ImproperDensityError, TargetValueError
from neural_vb.whitening import Frame, TracedTarget, Whitening

MAX_ROUNDS = 8
RESOLVED = 1.0  # nats


class Round(NamedTuple):
    whitening: Whitening  # from u to y, which is z before bends
    bends: tuple[Map, ...]
    particles: smc.Particles
    y: Array
    log_prob: Array  # of y
    score: Array  # gradient of log p in u
    log_evidence: float


class Runner:
    """Sequential Monte Carlo from any Gaussian, compiled once: the coordinates are arguments.

    Particles know log p less its largest known value, in single precision. Less its value at the centre would not do:
    between narrow modes that is -1e8 or less, next to which single precision knows no nats.
    """

    def __init__(self, density: TracedTarget, *, top: float, seed: int, jit_compile: bool) -> None:
        self.density = density
        self.top = float(top)
        self.seed = seed
        self.rounds = 0

        def run(start: smc.Start, frame: Frame, seed: tf.Tensor) -> smc.Particles:
            return smc.sample(lambda u: density(u, frame), start, seed=seed)

        self.compiled = Compiled(run, jit_compile=jit_compile)
        self.plain = graph(density)

    def __call__(self, shift: Array, scale_tril: Array, bends: tuple[Map, ...] = ()) -> Round:
        whitening = Whitening(np.asarray(shift, np.float64), np.asarray(scale_tril, np.float64))
        seed = mixtures.fold_in([self.seed, self.rounds], mixtures.Stream.PARTICLES)
        for _ in range(2):
            top = self.top if np.isfinite(self.top) else 0.0
            frame = Frame.of(replace(whitening, bends=bends), top + whitening.log_det)
            start = self._start(frame, seed)
            if not self._rises(top, start.points.log_prob):
                break
        particles = self.compiled(start, frame, seed)
        self.rounds += 1
        self._rises(top, particles.log_prob)
        y = whitening.to_z(particles.u).numpy()
        usable = np.isfinite(y).all(-1) & np.isfinite(particles.log_prob.numpy())
        log_evidence = float(particles.log_evidence) + top + whitening.log_det
        if (
            not np.isfinite(log_evidence)
            or usable.sum() < min(8 * len(shift), self.density.num // 2)
            or particles.beta < 1.0
            or self._unresolved(y[usable], usable, particles, frame)
        ):
            log_evidence = -np.inf
        log_prob = top + particles.log_prob.numpy()[usable].astype(np.float64)
        score = particles.gradient.numpy()[usable].astype(np.float64)
        return Round(whitening, bends, particles, y[usable], log_prob, score, log_evidence)

    def _unresolved(self, y: Array, usable: Array, particles: smc.Particles, frame: Frame) -> bool:
        """Whether moving the particles by the last digit of the target's precision changes their log p.

        They then sit where log p is unbounded, as in a centred hierarchy whose scale goes to zero, and what they know
        of it is rounding.
        """
        z = bending.forward(frame.bends, tf.constant(y))[0].numpy()
        digit = np.finfo(self.density.target.dtype.as_numpy_dtype).eps * np.abs(z).max(0)
        moved = np.random.default_rng(0).choice([-1.0, 1.0], len(digit)) * digit
        if frame.bends:
            nearest: Any = frame.bends[0]  # to z: a bend, as particles come before ridges
            frame = frame._replace(bends=(nearest._replace(shift=nearest.shift + moved), *frame.bends[1:]))
        else:
            frame = frame._replace(shift=frame.shift + moved)
        change = np.abs(self.density.values(particles.u.numpy(), frame) - particles.log_prob.numpy())[usable]
        return not np.median(np.nan_to_num(change, nan=np.inf)) < RESOLVED

    def _start(self, frame: Frame, seed: tf.Tensor) -> smc.Start:
        size, num = self.density.target.event_size, self.density.num
        return smc.start(lambda u: self.plain(u, frame), size, seed=seed, num_particles=num)

    def _rises(self, top: float, log_prob: tf.Tensor) -> bool:
        """Note the largest of log p = ``top`` + ``log_prob`` [N], if none was known or it is larger; tell whether."""
        highest = top + float(tf.reduce_max(log_prob))
        if not np.isfinite(highest) or highest <= self.top:
            return False
        self.top = highest
        return True


def settle(runner: Runner, candidates: list[tuple[Array, Array]], bends: tuple[Map, ...] = ()) -> Round:
    """Repeat from the best candidate's own moments until they no longer move. A candidate that fits ends the search."""
    rounds: list[Round] = []
    for candidate in candidates:
        rounds.append(runner(*candidate, bends))
        if rounds[-1].log_evidence > -np.inf and not _moved(rounds[-1]):
            break
    current = max(rounds, key=lambda found: found.log_evidence)
    if current.log_evidence == -np.inf:
        raise TargetValueError(
            expected="a log density that particles can follow from the start",
            got=f"no finite evidence from {len(candidates)} starting Gaussians",
            fix="pass start= near the bulk of the posterior, or reparameterise so that it lies near the origin",
        )
    first_scale = np.abs(current.y - np.median(current.y, 0)).mean(0)
    for _ in range(MAX_ROUNDS):
        if not _moved(current):
            break
        whitening, _ = moments_of(current)
        following = runner(whitening.shift, whitening.scale_tril, bends)
        if following.log_evidence < current.log_evidence - 1.0:
            break
        current = following
    else:
        growth = np.abs(current.y - np.median(current.y, 0)).mean(0) / first_scale
        if growth.max() > 1e3:
            raise ImproperDensityError(
                expected="a log density with a finite integral",
                got=f"particles that kept spreading, by a factor of {growth.max():.0e} in coordinate {growth.argmax()}",
                fix="add a proper prior for that parameter",
            )
    return current


def _moved(found: Round) -> bool:
    """Whether the particles lie elsewhere than the Gaussian they started from, which was half as wide again."""
    noise = found.whitening.to_u(found.y)
    log_sd = np.log(noise.std(0) + 1e-30)
    return bool(np.abs(noise.mean(0)).max() > 1.0 or np.abs(log_sd).max() > 0.35)


def moments_of(found: Round) -> tuple[Whitening, Array]:
    """Whitening by the particles' moments, with their scores as control variates; and the scores in its coordinates.

    Taken in whitened coordinates: the shrinkage of correlations by D / N would undo a correlation of .999 outside them.
    Twice, as those of the round may fit badly.
    """
    whitening, score = found.whitening, found.score
    for _ in range(2):
        base = gaussian_mixture.moments(whitening.to_u(found.y), score)
        shift = whitening.to_z(tf.constant(base.means[0])).numpy()
        whitening = Whitening(shift, whitening.scale_tril @ base.scale_trils[0])
        score = score @ base.scale_trils[0]
    return whitening, score
