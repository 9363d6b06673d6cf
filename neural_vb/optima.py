"""Optima of a log density, and Gaussians at them whose scales are *measured*.

L-BFGS from dispersed points; at each distinct optimum a Laplace approximation, in which the distance at which log p has
fallen by half a nat along each eigenvector of the Hessian is the scale.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

from neural_vb._types import Array
from neural_vb.probing import Probe

logger = logging.getLogger(__name__)


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


def optimise(evaluate: Probe, start: Array, *, max_iterations: int = 300) -> tuple[Array, float]:
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

    Searched on a grid of factors two around ``guess`` and interpolated as if quadratic.
    """
    factors = 2.0 ** np.arange(-24, 9)
    steps = guess[:, np.newaxis] * factors
    offsets = steps[..., np.newaxis] * directions[:, np.newaxis]
    points = mean + np.stack([offsets, -offsets])
    log_prob = evaluate(points.reshape(-1, len(mean)))[0].reshape(points.shape[:-1])
    level = evaluate(mean[np.newaxis])[0][0]
    drop = np.minimum(level - np.where(np.isfinite(log_prob), log_prob, -np.inf), 1e6).mean(0)
    beyond = drop > 0.5
    first = np.where(beyond.any(-1), beyond.argmax(-1), len(factors) - 1)[:, np.newaxis]
    reached, fallen = (np.take_along_axis(values, first, -1)[:, 0] for values in (steps, drop))
    return reached / np.sqrt(np.clip(fallen / 0.5, 1.0, 16.0))


def cover(optima: list[Laplace]) -> tuple[Array, Array]:
    """Mean and Cholesky factor of the moment-matched mixture of Laplace approximations, weighted by evidence.

    Weights are tempered (square root), so that a mode whose evidence is underestimated still widens the start.
    """
    log_weights = 0.5 * np.array([optimum.log_evidence for optimum in optima])
    weights = np.exp(log_weights - logsumexp(log_weights))
    mean = sum(w * o.mean for w, o in zip(weights, optima, strict=True))
    covariance = sum(
        w * (o.scale_tril @ o.scale_tril.T + np.outer(o.mean - mean, o.mean - mean))
        for w, o in zip(weights, optima, strict=True)
    )
    return mean, np.linalg.cholesky(covariance)


def find_optima(evaluate: Probe, points: Array) -> list[Laplace]:
    """Laplace approximations at the distinct optima reached from ``points`` [N, D]."""
    optima: list[Laplace] = []
    for point in points:
        mean, log_prob = optimise(evaluate, point)
        if not np.isfinite(log_prob) or log_prob <= -1e29:
            continue
        if any(_is_inside(mean, optimum) for optimum in optima):
            continue
        try:
            optima.append(laplace(evaluate, mean))
        except np.linalg.LinAlgError:
            logger.info("Laplace approximation failed at an optimum with log p %.3f", log_prob)
    return optima


def _is_inside(mean: Array, optimum: Laplace) -> bool:
    """Whether a point lies within one scale of an optimum that is known already."""
    noise = np.linalg.solve(optimum.scale_tril, mean - optimum.mean)
    return float(np.abs(noise).max()) < 1.0
