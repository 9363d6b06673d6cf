"""The best Gaussian under KL(q || p), from scores alone: natural gradients whose noise vanishes where p is Gaussian.

With u ~ N(0, I), z = m + L u and s the gradient of log p with respect to u, Stein's identities give

    E[s] = gradient of the bound in L^-1 m,    E[s u^T] = E[Hessian of log p],

and s + u in place of s leaves out -I and all of the noise that a Gaussian p would have. The step is that of Khan & Rue,
"The Bayesian learning rule" (arXiv 2107.04562): precision I - M with M = E[(s + u) u^T], then the mean by its inverse;
within a radius that grows while the bound grows, since far from the optimum a full step is far too long.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from neural_vb._types import Array, Density
from neural_vb.mixtures import Stream

logger = logging.getLogger(__name__)

NUM_DRAWS = 1_024
MIN_ITERATIONS = 30  # and a quarter of D; what does not rest by then is far from Gaussian, or from here
MAX_RADIUS = 64.0  # standard deviations
SMALL_STEP = 0.3  # standard deviations; three such steps in a row that gain nothing end the search
PATIENCE = 3
ROUNDING = 1e-3  # nats


class Gaussian(NamedTuple):
    """N(mean, scale_tril scale_tril^T), and what its draws say.

    Attributes:
        mean: [D].
        scale_tril: [D, D].
        elbo: evidence lower bound, nats.
        standard_error: of ``elbo``.
        divergence: half the variance of log p - log q over draws, about KL(q || p) where it is small; nats.
    """

    mean: Array
    scale_tril: Array
    elbo: float
    standard_error: float
    divergence: float


class Start(NamedTuple):
    """N(mean [D], scale_tril scale_tril^T)."""

    mean: Array
    scale_tril: Array


class _Look(NamedTuple):
    """A Gaussian's bound, its gradient [D] and the mean Hessian of log p + |u|^2 / 2 [D, D], from fresh draws."""

    gaussian: Gaussian
    gradient: Array
    hessian: Array


def fit(evaluate: Density, starts: Sequence[Start], *, seed: int) -> Gaussian | None:
    """Ascend the evidence lower bound from the best of some Gaussians.

    Args:
        evaluate: [N, D] -> log p [N], nats, and its gradient [N, D].
        starts: where to begin; the one with the largest bound is taken.
        seed: of the draws.

    Returns:
        The last Gaussian; None where draws leave the support, or the bound does not come to rest.
    """
    rng = np.random.default_rng([seed, Stream.GAUSSIAN])
    looks = [found for start in starts if (found := _look(evaluate, start, rng)) is not None]
    if not looks:
        return None
    current, radius, rests = max(looks, key=lambda look: look.gaussian.elbo), 1.0, 0
    size = len(current.gradient)
    for iteration in range(MIN_ITERATIONS + size // 4):
        step, proposal = _step(current, radius)
        following = _look(evaluate, proposal, rng)
        if following is None or not _rises(current.gaussian, following.gaussian):
            radius /= 4.0
            if radius < 1e-3:
                return None
            continue
        gain = following.gaussian.elbo - current.gaussian.elbo
        rests = rests + 1 if step < SMALL_STEP and gain < _noise(current.gaussian, following.gaussian) else 0
        current, radius = following, min(2.0 * radius, MAX_RADIUS)
        if rests == PATIENCE:
            logger.info("a Gaussian after %d steps: bound %.3f", iteration + 1, current.gaussian.elbo)
            return current.gaussian
    return None


def _noise(current: Gaussian, following: Gaussian) -> float:
    """What the difference of two bounds may owe to draws and to rounding, nats."""
    return 3.0 * math.hypot(current.standard_error, following.standard_error) + ROUNDING


def _rises(current: Gaussian, following: Gaussian) -> bool:
    """Whether the bound did not fall by more than its noise, of which a nat is trusted at most."""
    return following.elbo > current.elbo - min(_noise(current, following), 1.0)


def _look(evaluate: Density, start: Start, rng: np.random.Generator) -> _Look | None:
    mean, scale_tril = start
    size = len(mean)
    u = rng.standard_normal((max(NUM_DRAWS, 2 * size), size))
    log_prob, score = evaluate(mean + u @ scale_tril.T)
    rest = score @ scale_tril + u
    terms = log_prob + 0.5 * (u**2).sum(1)
    if not (np.isfinite(terms).all() and np.isfinite(rest).all()):
        return None
    log_det = float(np.log(np.diag(scale_tril)).sum())
    elbo = float(terms.mean()) + log_det + 0.5 * size * math.log(2.0 * math.pi)
    variance = float(terms.var())
    gaussian = Gaussian(mean, scale_tril, elbo, math.sqrt(variance / len(u)), 0.5 * variance)
    return _Look(gaussian, rest.mean(0), _hessian(u, rest))


def _hessian(u: Array, rest: Array) -> Array:
    """E[rest u^T], symmetric; what lies off the diagonal is shrunk by the share of it that is noise of the draws."""
    hessian = rest.T @ u / len(u)
    hessian = 0.5 * (hessian + hessian.T)
    diagonal = np.diag(np.diag(hessian))
    others = hessian - diagonal
    noise = 0.5 * (len(hessian) - 1) * float((rest**2).mean(0).sum()) / len(u)
    signal = float((others**2).sum())
    return diagonal + others * (1.0 - min(1.0, noise / signal) if signal > 0.0 else 0.0)


def _step(current: _Look, radius: float) -> tuple[float, Start]:
    """Length of the natural gradient step, in standard deviations, and mean and factor after it."""
    gaussian = current.gaussian
    bound = 2.0 * min(radius, 1.0)
    precisions, vectors = np.linalg.eigh(np.eye(len(gaussian.mean)) - current.hessian)
    precisions = np.clip(precisions, math.exp(-bound), math.exp(bound))
    move = (vectors.T @ current.gradient) / precisions
    length = float(np.abs(move).max())
    move = vectors @ move * min(1.0, radius / (length + 1e-30))
    covariance = (vectors / precisions) @ vectors.T
    factor = gaussian.scale_tril @ np.linalg.cholesky(covariance)  # a product of lower triangles is one
    return length, Start(gaussian.mean + gaussian.scale_tril @ move, factor)
