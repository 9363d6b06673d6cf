"""Where training starts: scales, modes and weights of the posterior, found before any network is trained.

1. Optima from dispersed points, with Gaussians at them; where there is one optimum, the Gaussian of the largest lower
   bound. If that meets the posterior, nothing else is done.
2. Tempered sequential Monte Carlo from this Gaussian, or from one that covers the optima, and from plain ones; the run
   with the largest evidence is kept, and repeated from its own moments until they no longer move.
3. Where there is one optimum, Gaussians that are conditional on one direction after another (:mod:`neural_vb.curving`).
4. Where these do not meet the posterior, a Gaussian mixture on the particles, with whitening by their moments, and
   improved by population Monte Carlo.
5. Where that does not, 2 and 4 again in coordinates with a bend, as long as these bring it nearer.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from neural_vb import bending, curving, gaussian_mixture, gaussian_vi, mixtures, population
from neural_vb._types import Array, Base, Target
from neural_vb.bending import Map
from neural_vb.errors import ImproperDensityError, TargetValueError
from neural_vb.mixtures import Stream
from neural_vb.moving import Mover
from neural_vb.optima import Laplace, cover, elsewhere, find_optima
from neural_vb.particles import Round, Runner, moments_of, settle
from neural_vb.population import Population
from neural_vb.probing import Probe, naming
from neural_vb.whitening import Frame, TracedTarget, WhitenedTarget, Whitening, longest

logger = logging.getLogger(__name__)


class WarmStart(NamedTuple):
    """Coordinates and a first approximation.

    Attributes:
        target: in whitened coordinates.
        base: mixture in whitened coordinates; a single component is standard normal.
        numbers: what is worth telling, by name.
        jit_compile: whether XLA could compile the target, as far as it was tried.
        met: what fresh draws say of a mixture that is nearer to the target than the tolerance, or with ridges than
            ``CURVED`` times that; else None.
    """

    target: WhitenedTarget
    base: Base
    numbers: dict[str, float]
    jit_compile: bool
    met: Population | None = None


NUM_PARTICLES = 2_048  # and points at once; a density may hold a number for each of them and each row of data
PLAIN_SCALE = 0.1  # of a Gaussian at the first starting point
NEARLY = 10.0  # tolerances within which a Gaussian is worth improving before particles have looked around
CURVED = 3.0  # tolerances within which ridges need no network: trained from there, none came nearer. And
SMALL = 30  # dimensions beyond which they may be more, in proportion
NEGLIGIBLE = 20.0  # nats below the largest evidence, of optima or particles
MAX_BENDS = 3
MAX_REFITS = 8
RESTED = 4.0 / NUM_PARTICLES**0.5  # of means and log sds that the bend has made zero


class Tools(NamedTuple):
    """What all stages of a warm start use.

    Attributes:
        density: of the target in training's precision.
        mover: of draws of a mixture.
        evaluate: log p and its gradient, for optima and Gaussians.
        seed: of particles and mixtures.
        tolerance: as of ``warm_start``.
    """

    density: TracedTarget
    mover: Mover
    evaluate: Probe
    seed: int
    tolerance: float


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
    with naming():
        density = TracedTarget(target, NUM_PARTICLES)
    tools = Tools(density, Mover(density, seed), evaluate, seed, tolerance)
    optima: list[Laplace] = []
    gaussian = None
    if moments is not None:
        candidates = [moments]
    else:
        points = _finite(evaluate, points)
        chosen = np.unique(np.linspace(0, len(points) - 1, num_starts).astype(int))
        optima = find_optima(evaluate, points[chosen])
        if len(optima) == 1 and num_starts > 1:
            optima += elsewhere(evaluate, points, optima[0])
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
    tried = gaussian is not None and gaussian.divergence < NEARLY * tolerance
    if gaussian is not None:
        candidates.insert(0, (gaussian.mean, gaussian.scale_tril))
        if tried:
            found = _improved(_gaussian(tools, gaussian, (), numbers, jit_compile), tools)
            if found.met is not None:
                return found
    report("particles")
    tops = [evaluate(optimum.mean[np.newaxis])[0][0] for optimum in optima]
    runner = Runner(density, top=max(tops, default=-np.inf), seed=seed, jit_compile=jit_compile)
    current = settle(runner, candidates)
    if tolerance == 0.0:
        report("mixture")
        return _mixture(runner, current, numbers, tools)
    curved = None
    if _probable(optima, current.log_evidence) < 2:  # a ridge has one mode
        report("curve")
        curved = _curved(current, numbers, tools, runner.compiled.jit_compile)
        # A mixture that did not meet the target from its best Gaussian will hardly from the particles.
        if curved is not None and (tried or curved.numbers["divergence"] < tolerance):
            return curved
    report("mixture")
    found = _mixture(runner, current, numbers, tools)
    if found.met is None and curved is not None and curved.numbers["bound"] > found.numbers["bound"]:
        return curved
    for _ in range(MAX_BENDS):
        if found.met is not None:
            break
        try:
            bent = _bent(found, current, numbers, tools, report)
        except (TargetValueError, ImproperDensityError, np.linalg.LinAlgError):
            break  # particles are lost in these coordinates; there are others
        if bent is None or not bent[0].numbers["bound"] > found.numbers["bound"] + tolerance:
            break
        found, current = bent
    return found


def _probable(optima: list[Laplace], log_evidence: float) -> int:
    """How many optima have a share of the evidence, of which the particles have seen some.

    A spike, as of a hierarchy whose scale goes to zero, has none; there may be nothing but spikes.
    """
    best = max((optimum.log_evidence for optimum in optima), default=log_evidence)
    return sum(optimum.log_evidence > max(best, log_evidence) - NEGLIGIBLE for optimum in optima)


def _curved(current: Round, numbers: dict[str, float], tools: Tools, jit_compile: bool) -> WarmStart | None:
    """A start that is met in coordinates with ridges, or nearly; None where there is none."""
    found = curving.curve(tools.evaluate, current.y, seed=tools.seed, tolerance=tools.tolerance)
    if found is None or not found.divergence < NEARLY * tools.tolerance:
        return None
    size = current.y.shape[1]
    standard = gaussian_vi.Gaussian(np.zeros(size), np.eye(size), found.bound, 0.0, found.divergence)
    start = _gaussian(tools, standard, found.maps, numbers | {"bends": float(len(found.maps))}, jit_compile)
    improved = _improved(start, tools, few=True)
    return None if improved.met is None else improved


def _bent(
    found: WarmStart, current: Round, numbers: dict[str, float], tools: Tools, report: Callable[[str], None]
) -> tuple[WarmStart, Round] | None:
    """The start in coordinates with a bend more, and its particles; None where no bend is worth it.

    The bend is found anew from the particles that it leads to: those before it may not have been in all of a funnel.
    """
    bends = current.bends
    runner = Runner(tools.density, top=-np.inf, seed=tools.seed, jit_compile=found.jit_compile)
    y, rests = current.y, 0
    for _ in range(MAX_REFITS):
        bend = bending.find(y)
        if bend is None:
            return None
        report("bend")
        near = gaussian_mixture.moments(bend.inverse(y)[0])
        current = settle(runner, [(near.means[0], near.scale_trils[0])], (*bends, bend))
        y = bending.forward((bend,), tf.constant(current.y))[0].numpy()
        change = max(np.abs(current.y.mean(0)).max(), np.abs(np.log(current.y.std(0) + 1e-30)).max())
        rests = rests + 1 if change < RESTED else 0
        if rests == 2:
            break
    near = gaussian_mixture.moments(current.y)
    start = gaussian_vi.Start(near.means[0], near.scale_trils[0])
    gaussian = gaussian_vi.fit(curving.inside(current.bends, tools.evaluate), (start,), seed=tools.seed)
    if gaussian is not None and gaussian.divergence < NEARLY * tools.tolerance:
        again = _improved(_gaussian(tools, gaussian, current.bends, numbers, found.jit_compile), tools)
        if again.met is not None:
            return again, current
    return _mixture(runner, current, numbers, tools), current


def _gaussian(
    tools: Tools,
    gaussian: gaussian_vi.Gaussian,
    bends: tuple[Map, ...],
    numbers: dict[str, float],
    jit_compile: bool,
) -> WarmStart:
    """A start from one Gaussian, in y, which the bends take to z."""
    target, evaluate = tools.density.target, tools.evaluate
    whitening = Whitening(gaussian.mean, gaussian.scale_tril, bends)
    base = mixtures.standard_base(target.event_size)
    u = np.random.default_rng([tools.seed, Stream.GAUSSIAN]).standard_normal((NUM_PARTICLES, target.event_size))
    whitened = WhitenedTarget(target, whitening, gaussian.elbo, longest_score(evaluate, whitening, u))
    return WarmStart(whitened, base, numbers | {"log_evidence": gaussian.elbo}, jit_compile)


def longest_score(evaluate: Probe, whitening: Whitening, u: Array) -> float:
    """The largest norm of gradients in u at points u [N, D] where log p and its gradient are finite."""
    straight = replace(whitening, bends=())
    log_prob, gradient = curving.inside(whitening.bends, evaluate)(straight.to_z(u).numpy())
    usable = np.isfinite(log_prob) & np.isfinite(gradient).all(-1)
    return longest(gradient[usable] @ whitening.scale_tril) if usable.any() else 0.0


def _improved(warm: WarmStart, tools: Tools, *, few: bool = False) -> WarmStart:
    """The mixture, of few components where asked, improved on its draws. One Gaussian goes into the whitening."""
    target = warm.target
    frame = Frame.of(target.whitening, target.offset)
    found = population.improve(
        lambda u: tools.density.values(u, frame),
        warm.base,
        seed=tools.seed,
        tolerance=tools.tolerance,
        move=None if few else functools.partial(tools.mover, frame, warm.jit_compile),
    )
    base = found.base
    logger.info("%d components are %.4f nats from the target", len(base.log_weights), found.divergence)
    if len(base.log_weights) == 1:
        before = target.whitening
        shift, scale_tril = before.shift + before.scale_tril @ base.means[0], before.scale_tril @ base.scale_trils[0]
        target = replace(target, whitening=replace(before, shift=shift, scale_tril=scale_tril))
        base = mixtures.standard_base(target.event_size)
    numbers = warm.numbers | {"components": float(len(base.log_weights)), "divergence": found.divergence}
    numbers["bound"] = found.elbo + target.offset
    allowed = CURVED * max(1.0, target.event_size / SMALL) if few else 1.0
    met = found if found.divergence < allowed * tools.tolerance else None
    return WarmStart(target, base, numbers, warm.jit_compile, met)


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


def _mixture(runner: Runner, current: Round, numbers: dict[str, float], tools: Tools) -> WarmStart:
    """A mixture on the particles, in coordinates of their moments."""
    whitening, score = moments_of(current)
    target = WhitenedTarget(
        tools.density.target, replace(whitening, bends=current.bends), current.log_evidence, longest(score)
    )
    log_density = current.log_prob + (whitening.log_det - current.log_evidence)
    mixture = gaussian_mixture.fit(whitening.to_u(current.y), log_density, seed=tools.seed)
    if len(mixture.log_weights) == 1:
        mixture = mixtures.standard_base(target.event_size)
    numbers = numbers | {
        "rounds": float(runner.rounds),
        "components": float(len(mixture.log_weights)),
        "bends": float(len(current.bends)),
        "temperatures": float(current.particles.num_stages),
        "acceptance": float(current.particles.acceptance),
        "log_evidence": current.log_evidence,
    }
    found = WarmStart(target, mixture, numbers, runner.compiled.jit_compile)
    return _improved(found, tools) if tools.tolerance > 0.0 else found
