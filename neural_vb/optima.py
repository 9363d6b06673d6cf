"""Optima of a log density, and Gaussians at them whose scales are *measured*.

L-BFGS from dispersed points; at each distinct optimum a Laplace approximation, in which the distance at which log p has
fallen by half a nat along each eigenvector of the Hessian is the scale.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

from neural_vb._types import Array
from neural_vb.probing import Probe

logger = logging.getLogger(__name__)

Evaluate = Callable[[Array], tuple[Array, Array]]
NUM_PRIOR = 32  # draws of a prior at once, in fits and checks alike: a joint is traced for each number
NUDGE = 0.01
RESTED = 0.1  # scales; an optimum that is found again within them stays where it is
MAX_TRIALS = 40  # distances tried along a direction
NUM_CLIMBS, MOST = 60, 3  # steps of all points together, and ends from which a search begins
SHARE = 7.0  # nats of evidence below the one optimum, at which another has a thousandth of the mass
LEVEL = 1.0  # nats: a gradient at an optimum, in its own scales, and what rounding of z makes of log p
FAR, DEEP = 4.0, 10.0  # scales from the one optimum, and nats below it (in ten dimensions), of ends that may be others'


class Laplace(NamedTuple):
    """A Gaussian at an optimum, with its log evidence in nats."""

    mean: Array
    scale_tril: Array
    log_evidence: float


def dispersed_points(event_size: int, num: int, *, seed: int) -> Array:
    """[num, D] points at four scales: the origin, uniform(-2, 2), N(0, 5^2) and N(0, 20^2)."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-2.0, 2.0, (num, event_size))
    wide = rng.standard_normal((num, event_size))
    points[num // 2 : 3 * num // 4] = 5.0 * wide[num // 2 : 3 * num // 4]
    points[3 * num // 4 :] = 20.0 * wide[3 * num // 4 :]
    points[0] = 0.0
    return points


def optimise(evaluate: Evaluate, start: Array, *, max_iterations: int = 300) -> tuple[Array, float]:
    """The optimum of log p that L-BFGS reaches from ``start`` [D], and log p there."""

    def negative(z: Array) -> tuple[float, Array]:
        log_prob, gradient = evaluate(z[np.newaxis])
        if not np.isfinite(log_prob[0]) or not np.isfinite(gradient[0]).all():
            return 1e30, np.zeros_like(z)
        return -float(log_prob[0]), -gradient[0]

    found = minimize(negative, start, jac=True, method="L-BFGS-B", options={"maxiter": max_iterations, "maxcor": 20})
    return found.x, -float(found.fun)


def laplace(evaluate: Probe, mean: Array) -> Laplace:
    """Gaussian at an optimum with measured scales: log p falls by half a nat at one scale along each eigenvector.

    The Hessian comes from central differences of the gradient, first on measured coordinate scales. Directions without
    curvature get the length at which log p does fall.
    """
    axes = np.eye(len(mean)) * _fall(evaluate, mean, np.eye(len(mean)), np.maximum(np.abs(mean), 1.0))[:, None]
    _, forward = evaluate(mean + 0.1 * axes)
    _, backward = evaluate(mean - 0.1 * axes)
    with np.errstate(invalid="ignore"):  # where log p has no finite gradient
        hessian = (forward - backward) @ axes.T / 0.2
    hessian = 0.5 * (hessian + hessian.T)
    if not np.isfinite(hessian).all():
        hessian = -np.eye(len(mean))
    curvatures, vectors = np.linalg.eigh(-hessian)
    directions = vectors.T @ axes
    guess = 1.0 / np.sqrt(np.maximum(curvatures, 1e-8 * max(curvatures.max(), 1e-300)))
    scales = _fall(evaluate, mean, directions, np.minimum(guess, 1e8))
    scaled = directions * scales[:, None]
    scale_tril = np.linalg.cholesky(scaled.T @ scaled + 1e-14 * np.diag((scaled**2).sum(0)))
    log_prob, _ = evaluate(mean[np.newaxis])
    log_evidence = log_prob[0] + 0.5 * len(mean) * np.log(2.0 * np.pi) + np.log(np.diag(scale_tril)).sum()
    return Laplace(mean, scale_tril, float(log_evidence))


def _fall(evaluate: Probe, mean: Array, directions: Array, guess: Array) -> Array:
    """Distances [M] along ``directions`` [M, D] at which log p is half a nat lower, averaged over both senses.

    From ``guess``, as if log p were quadratic until half a nat is bracketed, then as if it were a power between the
    ends of the bracket; every third time its middle, for the sake of cliffs. Nothing smaller than 2^-24 or larger than
    2^8 guesses is tried.
    """
    level = evaluate(mean[np.newaxis])[0][0]
    smallest, largest = 2.0**-24 * guess, 2.0**8 * guess
    step = guess.copy()
    low, high = (np.full((2, len(guess)), np.nan) for _ in range(2))  # distances and falls at the bracket's ends
    searched = np.arange(len(guess))
    for trial in range(MAX_TRIALS):
        offsets = step[searched, np.newaxis] * directions[searched]
        log_prob = evaluate(mean + np.concatenate([offsets, -offsets]))[0].reshape(2, -1)
        drop = np.minimum(level - np.where(np.isfinite(log_prob), log_prob, -np.inf), 1e6).mean(0).clip(1e-9)
        far = drop > 0.5
        high[:, searched[far]] = step[searched[far]], drop[far]
        low[:, searched[~far]] = step[searched[~far]], drop[~far]
        power = np.log(high[1] / low[1]) / np.log(high[0] / low[0])
        wanted = step * (0.5 / np.where(step == high[0], high[1], low[1])) ** (1.0 / np.where(power > 0, power, 2.0))
        if trial % 3 == 2:
            wanted = np.where(power > 0, np.sqrt(low[0] * high[0]), wanted)
        limits = np.maximum(smallest, step / 16.0), np.minimum(largest, step * 16.0)
        room = np.where(far, step[searched] > smallest[searched], step[searched] < largest[searched])
        beside = (np.abs(drop - 0.5) > 5e-5) & room & ~(high[0] < 1.001 * low[0])[searched]
        searched = searched[beside]
        step[searched] = np.clip(wanted, *limits)[searched]
        if not len(searched):
            break
    return step


def cover(optima: list[Laplace]) -> tuple[Array, Array]:
    """Mean and Cholesky factor of the moment-matched mixture of Laplace approximations, weighted by evidence.

    Weights are tempered (square root), so that a mode whose evidence is underestimated still widens the start.
    """
    log_weights = 0.5 * np.array([optimum.log_evidence for optimum in optima])
    weights = np.exp(log_weights - logsumexp(log_weights))
    mean = sum(w * o.mean for w, o in zip(weights, optima, strict=True))
    # The covariance is A A^T, and not formed: next to the largest scale its rounding may hide the smallest.
    parts = [np.c_[o.scale_tril, o.mean - mean] * np.sqrt(w) for w, o in zip(weights, optima, strict=True)]
    upper = np.asarray(np.linalg.qr(np.concatenate(parts, axis=1).T, mode="r"))
    return mean, upper.T * np.where(np.diag(upper) < 0.0, -1.0, 1.0)


def find_optima(evaluate: Probe, points: Array) -> list[Laplace]:
    """Laplace approximations at the distinct optima reached from ``points`` [N, D], the highest first.

    No search begins at a point itself but beside it, for it may be a saddle between modes, as the origin of a symmetric
    density is, where the gradient is zero.
    """
    optima: list[Laplace] = []
    beside = NUDGE * np.random.default_rng(0).standard_normal(points.shape) * np.maximum(np.abs(points), 1.0)
    ends = [optimise(evaluate, point) for point in points + beside]
    for mean, log_prob in sorted(ends, key=lambda end: -end[1]):
        if not np.isfinite(log_prob) or log_prob <= -1e29:
            continue
        if any(_is_inside(mean, optimum) for optimum in optima):
            continue
        try:
            found = _settled(evaluate, laplace(evaluate, mean))
        except np.linalg.LinAlgError:
            logger.info("Laplace approximation failed at an optimum with log p %.3f", log_prob)
            continue
        if not any(_is_inside(found.mean, optimum) for optimum in optima):
            optima.append(found)
    return optima


def elsewhere(evaluate: Probe, points: Array, optimum: Laplace) -> list[Laplace]:
    """Optima that a few searches have missed, when these all came to one, from where points [N, D] climb to.

    Many points climb together for less than some searches cost. From ends far from the optimum and not far below it
    searches begin. What these find farther off than the points, or where log p is rounding, is no part of the
    posterior.
    """

    whitened = _whitened(evaluate, optimum)
    begin = _scaled(points, optimum)
    reach = np.abs(begin).max()
    ends = climb(whitened, begin, NUM_CLIMBS)
    log_prob, distance = whitened(ends)[0], np.abs(ends).max(1)
    top = whitened(np.zeros([1, len(optimum.mean)]))[0][0]
    high = log_prob > top - DEEP * max(1.0, len(optimum.mean) / 10.0)
    order = np.argsort(-log_prob, kind="stable")
    chosen: list[int] = []
    for end in order[(high & (distance > FAR) & (distance < reach))[order]]:
        if len(chosen) < MOST and all(np.abs(ends[end] - ends[other]).max() > 1.0 for other in chosen):
            chosen.append(end)
    found = find_optima(evaluate, optimum.mean + ends[chosen] @ optimum.scale_tril.T) if len(chosen) else []
    return [
        other
        for other in found
        if other.log_evidence > optimum.log_evidence - SHARE
        and not _is_inside(other.mean, optimum)
        and np.abs(_scaled(other.mean, optimum)).max() < reach
        and _is_smooth(evaluate, other)
    ]


def _is_smooth(evaluate: Probe, optimum: Laplace) -> bool:
    """Whether log p is no rounding there: its gradient vanishes, and changes in the last digits of z are small."""
    digits = 1e-12 * np.random.default_rng(0).standard_normal((8, len(optimum.mean)))
    log_prob, gradient = evaluate(optimum.mean * np.concatenate([np.ones_like(digits[:1]), 1.0 + digits]))
    level = np.abs(gradient[0] @ optimum.scale_tril).max() < LEVEL
    return bool(level and np.abs(log_prob - log_prob[0]).max() < LEVEL)


def climb(density: Evaluate, v: Array, num: int, *, longest: float = np.inf) -> Array:
    """Where steepest ascent takes points v [N, D], each with a step of its own, which the last two gradients give.

    Args:
        density: v -> log p [N] and its gradient [N, D].
        v: in coordinates in which they are about standard.
        num: of steps.
        longest: distance that one of them may go, lest it jump into another mode.

    Barzilai & Borwein, "Two-point step size gradient methods" (IMA J. Numer. Anal. 8, 1988); steps downhill are
    refused, and followed by a shorter one.
    """
    value, gradient = density(v)
    step = np.full(len(v), 0.1)
    with np.errstate(all="ignore"):  # far out a gradient may be too large for squares
        for _ in range(num):
            largest = np.abs(gradient).max(1, keepdims=True) + 1e-30
            length = largest[:, 0] * np.linalg.norm(gradient / largest, axis=1) + 1e-30
            move = np.minimum(step, longest / length)[:, np.newaxis] * gradient
            above, slope = density(v + move)
            curvature = (move * (gradient - slope)).sum(1)
            longer = np.where(curvature > 0.0, (move**2).sum(1) / np.maximum(curvature, 1e-30), 4.0 * step)
            better = above >= value
            step = np.where(better, np.minimum(longer, 1e6), 0.25 * np.minimum(step, longest / length))
            v, gradient = (np.where(better[:, np.newaxis], *both) for both in ((v + move, v), (slope, gradient)))
            value = np.where(better, above, value)
    return v


def _settled(evaluate: Probe, found: Laplace) -> Laplace:
    """Once more in the coordinates of its own scales, for a search in bad ones may have run out of steps on the way."""
    u, log_prob = optimise(_whitened(evaluate, found), np.zeros_like(found.mean))
    if log_prob <= -1e29 or np.abs(u).max() < RESTED:
        return found
    return laplace(evaluate, found.mean + found.scale_tril @ u)


def _whitened(evaluate: Probe, optimum: Laplace) -> Evaluate:
    """log p and its gradient in the optimum's own scales; -inf and zero where one of them is not finite."""

    def density(u: Array) -> tuple[Array, Array]:
        with np.errstate(all="ignore"):  # a search may leave the support
            log_prob, gradient = evaluate(optimum.mean + u @ optimum.scale_tril.T)
            gradient = gradient @ optimum.scale_tril
        usable = np.isfinite(log_prob) & np.isfinite(gradient).all(1)
        return np.where(usable, log_prob, -np.inf), np.where(usable[:, np.newaxis], gradient, 0.0)

    return density


def _scaled(z: Array, optimum: Laplace) -> Array:
    """z [D] or [N, D] in the optimum's own scales."""
    return np.linalg.solve(optimum.scale_tril, (z - optimum.mean).T).T


def _is_inside(mean: Array, optimum: Laplace) -> bool:
    """Whether a point lies within one scale of an optimum that is known already."""
    return float(np.abs(_scaled(mean, optimum)).max()) < 1.0
