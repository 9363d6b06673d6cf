"""Where training starts: scales, modes and weights of the posterior, found before any network is trained.

1. Optima from dispersed points, with Gaussians at them; where there is one optimum, the Gaussian of the largest lower
   bound. If that meets the posterior, nothing else is done.
2. Tempered sequential Monte Carlo from this Gaussian, or from one that covers the optima, and from plain ones; the run
   with the largest evidence is kept, and repeated from its own moments until they no longer move.
3. A Gaussian mixture on its particles, with whitening by their moments, and improved by population Monte Carlo.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from neural_vb import gaussian_mixture, gaussian_vi, mixtures, polish, population, smc
from neural_vb._types import Array, Base, Target
from neural_vb.compilation import Compiled
from neural_vb.errors import ImproperDensityError, TargetValueError
from neural_vb.mixtures import Stream
from neural_vb.optima import Laplace, cover, find_optima
from neural_vb.population import Population
from neural_vb.probing import Probe
from neural_vb.whitening import WhitenedTarget, Whitening, longest

logger = logging.getLogger(__name__)


class WarmStart(NamedTuple):
    """Coordinates and a first approximation.

    Attributes:
        target: in whitened coordinates.
        base: mixture in whitened coordinates; a single component is standard normal.
        numbers: what is worth telling, by name.
        jit_compile: whether XLA could compile the target, as far as it was tried.
        met: what fresh draws say of a mixture that is nearer to the target than the tolerance; else None.
    """

    target: WhitenedTarget
    base: Base
    numbers: dict[str, float]
    jit_compile: bool
    met: Population | None = None


NUM_PARTICLES = 2_048
NUM_AT_ONCE = 2_048  # of the density; it may hold a number for each of them and each row of data
NUM_TUNING = 512  # of the draws that are moved; the step size is theirs
PLAIN_SCALE = 0.1  # of a Gaussian at the first starting point
NEARLY = 10.0  # tolerances within which a Gaussian is worth improving before particles have looked around
MAX_ROUNDS = 8


def warm_start(
    target: Target,
    *,
    evaluate: Probe,
    points: Array,
    seed: int,
    jit_compile: bool = True,
    num_starts: int = 10,
    moments: tuple[Array, Array] | None = None,
    tolerance: float = 0.0,
    report: Callable[[str], None] = lambda stage: None,
) -> WarmStart:
    """Coordinates, base mixture and numbers for a target.

    Args:
        target: in the precision of training.
        evaluate: log p and its gradient, in float64 where the target accepts that; for optima and Gaussians.
        points: [N, D] starting points; about ``num_starts`` of the finite ones, evenly spaced in their order, are used.
        seed: of particles and mixtures.
        jit_compile: compile the particles with XLA.
        num_starts: runs of L-BFGS.
        moments: mean and Cholesky factor of a user's draws, instead of the search for optima.
        tolerance: half variance of log p - log mixture, nats, at which nothing is left to do; 0 for never.
        report: called with the name of each stage.

    Raises:
        TargetValueError: no optimum with a finite log density was found.
        ImproperDensityError: the particles spread without end.
    """
    report("optimise")
    optima: list[Laplace] = []
    gaussian = None
    if moments is not None:
        candidates = [moments]
    else:
        points = _finite(evaluate, points)
        chosen = np.unique(np.linspace(0, len(points) - 1, num_starts).astype(int))
        optima = find_optima(evaluate, points[chosen])
        candidates = [cover(optima)] if optima else []
        if len(optima) > 1:
            best = max(optima, key=lambda optimum: optimum.log_evidence)
            candidates.append((best.mean, best.scale_tril))
        candidates.append((points[0], np.eye(target.event_size)))
    if len(optima) == 1:
        near = gaussian_vi.Start(optima[0].mean, optima[0].scale_tril)
        plain = gaussian_vi.Start(points[0], PLAIN_SCALE * np.eye(target.event_size))
        gaussian = gaussian_vi.fit(evaluate, (near, plain), seed=seed)
    numbers = {"optima": float(len(optima))}
    if gaussian is not None:
        candidates.insert(0, (gaussian.mean, gaussian.scale_tril))
        if gaussian.divergence < NEARLY * tolerance:
            found = _improved(_gaussian(target, gaussian, numbers, seed, jit_compile), seed, tolerance)
            if found.met is not None:
                return found
    report("particles")
    tops = [evaluate(optimum.mean[np.newaxis])[0][0] for optimum in optima]
    runner = _Runner(target, top=max(tops, default=-np.inf), seed=seed, jit_compile=jit_compile)
    current = _settle(runner, candidates)
    report("mixture")
    return _mixture(runner, current, numbers, seed, tolerance)


def _gaussian(
    target: Target, gaussian: gaussian_vi.Gaussian, numbers: dict[str, float], seed: int, jit_compile: bool
) -> WarmStart:
    """A start from one Gaussian."""
    whitened = WhitenedTarget(target, Whitening(gaussian.mean, gaussian.scale_tril), gaussian.elbo)
    base = mixtures.standard_base(target.event_size)
    u = np.random.default_rng([seed, Stream.GAUSSIAN]).standard_normal((NUM_PARTICLES, target.event_size))
    _, score = whitened.value_and_gradient(tf.constant(u, tf.float32))
    return WarmStart(
        replace(whitened, max_score=longest(score)), base, numbers | {"log_evidence": gaussian.elbo}, jit_compile
    )


def _improved(warm: WarmStart, seed: int, tolerance: float) -> WarmStart:
    """The mixture improved on its own draws. A single Gaussian goes into the whitening, as everywhere."""
    target = warm.target

    @tf.function(autograph=False)
    def log_prob(u: tf.Tensor) -> tf.Tensor:
        return target.log_prob(u[:, tf.newaxis])[:, 0]

    def evaluate(u: Array) -> Array:
        pieces = np.split(u.astype(np.float32), range(NUM_AT_ONCE, len(u), NUM_AT_ONCE))
        return np.concatenate([log_prob(tf.constant(piece)).numpy() for piece in pieces]).astype(np.float64)

    move = _mover(target, seed, warm.jit_compile)
    found = population.improve(evaluate, warm.base, seed=seed, tolerance=tolerance, move=move)
    base = found.base
    logger.info("%d components are %.4f nats from the target", len(base.log_weights), found.divergence)
    if len(base.log_weights) == 1:
        shift = target.whitening.to_z(tf.constant(base.means[0])).numpy()
        target = replace(target, whitening=Whitening(shift, target.whitening.scale_tril @ base.scale_trils[0]))
        base = mixtures.standard_base(target.event_size)
    numbers = warm.numbers | {"components": float(len(base.log_weights)), "divergence": found.divergence}
    return WarmStart(target, base, numbers, warm.jit_compile, found if found.divergence < tolerance else None)


def _mover(target: WhitenedTarget, seed: int, jit_compile: bool) -> population.Move:
    """Short Hamiltonian chains from a mixture's draws."""

    def run(
        u: tf.Tensor, tuning: tf.Tensor, start: polish.Coordinates, key: tf.Tensor, num: tf.Tensor
    ) -> polish.Polished:
        return polish.polish(target.value_and_gradient, u, tuning, start, None, seed=key, num_transitions=num)

    compiled = Compiled(run, jit_compile=jit_compile)

    def move(u: Array, look: int, num_transitions: int) -> tuple[Array, Array]:
        tuning, rest = np.split(u[:, np.newaxis], [NUM_TUNING])
        start = polish.Coordinates(*(tf.constant(part, tf.float32) for part in polish.coordinates(tuning)))
        key = mixtures.fold_in([seed, look], Stream.MOVES)
        ends = compiled(
            tf.constant(rest, tf.float32), tf.constant(tuning, tf.float32), start, key, tf.constant(num_transitions)
        )
        log_prob = ends.log_prob.numpy()[:, 0].astype(np.float64)
        finite = np.isfinite(log_prob)
        return ends.u.numpy()[finite, 0].astype(np.float64), log_prob[finite]

    return move


def _finite(evaluate: Probe, points: Array) -> Array:
    """The points whose log density and gradient are finite, in their order."""
    log_prob, gradient = evaluate(points)
    finite = points[np.isfinite(log_prob) & np.isfinite(gradient).all(-1)]
    if not len(finite):
        raise TargetValueError(
            expected="a finite log density at a starting point",
            got=f"none at {len(points)} points",
            fix="pass start= with a point where the log density is finite",
        )
    return finite


class _Round(NamedTuple):
    whitening: Whitening
    offset: float
    particles: smc.Particles
    z: Array
    score: Array  # gradient of log p at z in the round's coordinates
    log_evidence: float


class _Runner:
    """Sequential Monte Carlo from any Gaussian, compiled once: the coordinates are arguments.

    Particles know log p less its largest known value, in single precision. Less its value at the centre would not do:
    between narrow modes that is -1e8 or less, next to which single precision knows no nats.
    """

    def __init__(self, target: Target, *, top: float, seed: int, jit_compile: bool) -> None:
        self.target = target
        self.top = float(top)
        self.seed = seed
        self.rounds = 0

        def value_and_gradient(
            u: tf.Tensor, shift: tf.Tensor, scale_tril: tf.Tensor, offset: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape() as tape:
                tape.watch(u)
                z = tf.matmul(tf.cast(u, tf.float64), scale_tril, transpose_b=True) + shift
                log_prob = target.log_prob(tf.cast(z, target.dtype)[:, tf.newaxis])[:, 0]
                log_prob = tf.cast(tf.cast(log_prob, tf.float64) - offset, tf.float32)
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
        ]
        self.traced = tf.function(value_and_gradient, autograph=False).get_concrete_function(*specs)

        def run(
            start: smc.Start, shift: tf.Tensor, scale_tril: tf.Tensor, offset: tf.Tensor, seed: tf.Tensor
        ) -> smc.Particles:
            return smc.sample(lambda u: self.traced(u, shift, scale_tril, offset), start, seed=seed)

        self.compiled = Compiled(run, jit_compile=jit_compile)

    def __call__(self, shift: Array, scale_tril: Array) -> _Round:
        whitening = Whitening(np.asarray(shift, np.float64), np.asarray(scale_tril, np.float64))
        seed = mixtures.fold_in([self.seed, self.rounds], mixtures.Stream.PARTICLES)
        for _ in range(2):
            top = self.top if np.isfinite(self.top) else 0.0
            coordinates = (
                tf.constant(whitening.shift),
                tf.constant(whitening.scale_tril),
                tf.constant(top, tf.float64),
            )
            start = self._start(coordinates, seed)
            if not self._rises(top, start.points.log_prob):
                break
        particles = self.compiled(start, *coordinates, seed)
        self.rounds += 1
        self._rises(top, particles.log_prob)
        offset = top + whitening.log_det
        z = whitening.to_z(particles.u).numpy()
        usable = np.isfinite(z).all(-1) & np.isfinite(particles.log_prob.numpy())
        log_evidence = float(particles.log_evidence) + offset
        if (
            not np.isfinite(log_evidence)
            or usable.sum() < min(8 * len(shift), NUM_PARTICLES // 2)
            or particles.beta < 1.0
        ):
            log_evidence = -np.inf
        score = particles.gradient.numpy()[usable].astype(np.float64)
        return _Round(whitening, offset, particles, z[usable], score, log_evidence)

    def _start(self, coordinates: tuple[tf.Tensor, ...], seed: tf.Tensor) -> smc.Start:
        size = self.target.event_size
        return smc.start(lambda u: self.traced(u, *coordinates), size, seed=seed, num_particles=NUM_PARTICLES)

    def _rises(self, top: float, log_prob: tf.Tensor) -> bool:
        """Note the largest of log p = ``top`` + ``log_prob`` [N], if none was known or it is larger; tell whether."""
        highest = top + float(tf.reduce_max(log_prob))
        if not np.isfinite(highest) or highest <= self.top:
            return False
        self.top = highest
        return True


def _settle(runner: _Runner, candidates: list[tuple[Array, Array]]) -> _Round:
    """Repeat from the best candidate's own moments until they no longer move. A candidate that fits ends the search."""
    rounds: list[_Round] = []
    for candidate in candidates:
        rounds.append(runner(*candidate))
        if rounds[-1].log_evidence > -np.inf and not _moved(rounds[-1]):
            break
    current = max(rounds, key=lambda found: found.log_evidence)
    if current.log_evidence == -np.inf:
        raise TargetValueError(
            expected="a log density that particles can follow from the start",
            got=f"no finite evidence from {len(candidates)} starting Gaussians",
            fix="pass start= near the bulk of the posterior, or reparameterise so that it lies near the origin",
        )
    first_scale = np.abs(current.z - np.median(current.z, 0)).mean(0)
    for _ in range(MAX_ROUNDS):
        if not _moved(current):
            break
        whitening = _moments(current)
        following = runner(whitening.shift, whitening.scale_tril)
        if following.log_evidence < current.log_evidence - 1.0:
            break
        current = following
    else:
        growth = np.abs(current.z - np.median(current.z, 0)).mean(0) / first_scale
        if growth.max() > 1e3:
            raise ImproperDensityError(
                expected="a log density with a finite integral",
                got=f"particles that kept spreading, by a factor of {growth.max():.0e} in coordinate {growth.argmax()}",
                fix="add a proper prior for that parameter",
            )
    return current


def _mixture(runner: _Runner, current: _Round, numbers: dict[str, float], seed: int, tolerance: float) -> WarmStart:
    """A mixture on the particles, in coordinates of their moments."""
    whitening = _moments(current)
    target = WhitenedTarget(runner.target, whitening, current.log_evidence)
    u = whitening.to_u(current.z)
    log_density, score = target.value_and_gradient(tf.constant(u, tf.float32))
    mixture = gaussian_mixture.fit(u, log_density.numpy().astype(np.float64), seed=seed)
    if len(mixture.log_weights) == 1:
        mixture = mixtures.standard_base(target.event_size)
    numbers = numbers | {
        "rounds": float(runner.rounds),
        "components": float(len(mixture.log_weights)),
        "temperatures": float(current.particles.num_stages),
        "acceptance": float(current.particles.acceptance),
        "log_evidence": current.log_evidence,
    }
    found = WarmStart(replace(target, max_score=longest(score)), mixture, numbers, runner.compiled.jit_compile)
    return _improved(found, seed, tolerance) if tolerance > 0.0 else found


def _moved(found: _Round) -> bool:
    """Whether the particles lie elsewhere than the Gaussian they started from, which was half as wide again."""
    noise = found.whitening.to_u(found.z)
    log_sd = np.log(noise.std(0) + 1e-30)
    return bool(np.abs(noise.mean(0)).max() > 1.0 or np.abs(log_sd).max() > 0.35)


def _moments(found: _Round) -> Whitening:
    """Whitening by the particles' moments, with their scores as control variates.

    Taken in whitened coordinates: the shrinkage of correlations by D / N would undo a correlation of .999 outside them.
    Twice, as those of the round may fit badly.
    """
    whitening, score = found.whitening, found.score
    for _ in range(2):
        base = gaussian_mixture.moments(whitening.to_u(found.z), score)
        shift = whitening.to_z(tf.constant(base.means[0])).numpy()
        whitening = Whitening(shift, whitening.scale_tril @ base.scale_trils[0])
        score = score @ base.scale_trils[0]
    return whitening
