"""Particles: sequential Monte Carlo from any Gaussian, repeated from its own moments until these rest."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from neural_vb import bending, gaussian_mixture, mixtures, smc
from neural_vb._types import Array, Target
from neural_vb.bending import Bend
from neural_vb.compilation import Compiled, graph
from neural_vb.errors import ImproperDensityError, TargetValueError
from neural_vb.whitening import Whitening

NUM_PARTICLES = 2_048
MAX_ROUNDS = 8


class Round(NamedTuple):
    whitening: Whitening  # from u to y, which is z before bends
    bends: tuple[Bend, ...]
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

    def __init__(self, target: Target, *, num_bends: int = 0, top: float, seed: int, jit_compile: bool) -> None:
        self.target = target
        self.top = float(top)
        self.seed = seed
        self.rounds = 0

        def value_and_gradient(
            u: tf.Tensor, shift: tf.Tensor, scale_tril: tf.Tensor, offset: tf.Tensor, bends: tuple[Bend, ...]
        ) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape() as tape:
                tape.watch(u)
                y = tf.matmul(tf.cast(u, tf.float64), scale_tril, transpose_b=True) + shift
                z, log_det = bending.forward(bends, y)
                log_prob = target.log_prob(tf.cast(z, target.dtype)[:, tf.newaxis])[:, 0]
                log_prob = tf.cast(tf.cast(log_prob, tf.float64) + (log_det - offset), tf.float32)
            gradient = tape.gradient(log_prob, u)
            usable = tf.math.is_finite(log_prob) & tf.reduce_all(tf.math.is_finite(gradient), -1)
            return tf.where(usable, log_prob, -np.inf), tf.where(usable[:, tf.newaxis], gradient, 0.0)

        # Traced here, outside the compiled function. Inside it tf.vectorized_map (in every AutoBatched joint) makes a
        # call whose gradient passes shapes on, TensorFlow then takes all arguments for compile-time constants, and XLA
        # compiles anew for every start.
        size = target.event_size
        specs = [
            tf.TensorSpec([NUM_PARTICLES, size], tf.float32),
            tf.TensorSpec([size], tf.float64),
            tf.TensorSpec([size, size], tf.float64),
            tf.TensorSpec([], tf.float64),
            num_bends * (_bend_spec(size),),
        ]
        self.traced = graph(value_and_gradient).get_concrete_function(*specs)

        def run(start: smc.Start, coordinates: tuple[Any, ...], seed: tf.Tensor) -> smc.Particles:
            return smc.sample(lambda u: self.traced(u, *coordinates), start, seed=seed)

        self.compiled = Compiled(run, jit_compile=jit_compile)

    def __call__(self, shift: Array, scale_tril: Array, bends: tuple[Bend, ...] = ()) -> Round:
        whitening = Whitening(np.asarray(shift, np.float64), np.asarray(scale_tril, np.float64))
        seed = mixtures.fold_in([self.seed, self.rounds], mixtures.Stream.PARTICLES)
        for _ in range(2):
            top = self.top if np.isfinite(self.top) else 0.0
            coordinates = (
                tf.constant(whitening.shift),
                tf.constant(whitening.scale_tril),
                tf.constant(top, tf.float64),
                tf.nest.map_structure(lambda part: tf.constant(part, tf.float64), bends),
            )
            start = self._start(coordinates, seed)
            if not self._rises(top, start.points.log_prob):
                break
        particles = self.compiled(start, coordinates, seed)
        self.rounds += 1
        self._rises(top, particles.log_prob)
        y = whitening.to_z(particles.u).numpy()
        usable = np.isfinite(y).all(-1) & np.isfinite(particles.log_prob.numpy())
        log_evidence = float(particles.log_evidence) + top + whitening.log_det
        if (
            not np.isfinite(log_evidence)
            or usable.sum() < min(8 * len(shift), NUM_PARTICLES // 2)
            or particles.beta < 1.0
            or self._collapsed(y[usable])
        ):
            log_evidence = -np.inf
        log_prob = top + particles.log_prob.numpy()[usable].astype(np.float64)
        score = particles.gradient.numpy()[usable].astype(np.float64)
        return Round(whitening, bends, particles, y[usable], log_prob, score, log_evidence)

    def _collapsed(self, y: Array) -> bool:
        """Whether the target's precision cannot tell the particles apart in a coordinate.

        They then sit where log p is unbounded, as that of a centred hierarchy is where its scale goes to zero, and
        their evidence is rounding.
        """
        resolution = np.finfo(self.target.dtype.as_numpy_dtype).eps
        return bool((y.std(0) < resolution * np.abs(y).max(0)).any())

    def _start(self, coordinates: tuple[Any, ...], seed: tf.Tensor) -> smc.Start:
        size = self.target.event_size
        return smc.start(lambda u: self.traced(u, *coordinates), size, seed=seed, num_particles=NUM_PARTICLES)

    def _rises(self, top: float, log_prob: tf.Tensor) -> bool:
        """Note the largest of log p = ``top`` + ``log_prob`` [N], if none was known or it is larger; tell whether."""
        highest = top + float(tf.reduce_max(log_prob))
        if not np.isfinite(highest) or highest <= self.top:
            return False
        self.top = highest
        return True


def settle(runner: Runner, candidates: list[tuple[Array, Array]], bends: tuple[Bend, ...] = ()) -> Round:
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


def _bend_spec(size: int) -> Bend:
    return Bend(*(tf.TensorSpec(shape, tf.float64) for shape in bending.shapes(size)))
