"""Gaussian mixtures fitted to particles: expectation-maximisation, with the number of components chosen by BIC."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from neural_vb._types import Array, Base

COMPONENTS = (1, 2, 3, 4, 6, 8, 12, 16)


def fit(points: Array, log_density: Array, *, seed: int, candidates: tuple[int, ...] = COMPONENTS) -> Base:
    """The mixture with the smallest BIC over ``candidates`` components; stops at the second rise in a row.

    BIC = -2 log L + (K - 1 + K D + K D (D + 1) / 2) log N (Schwarz 1978). No mixture can gain more log likelihood over
    the best so far than N KL(p || best), and that is about N Var(log p - log best) / 2 when it is small: mixtures that
    could not pay for their parameters with twice as much are not tried.

    Args:
        points: [N, D], from p.
        log_density: [N], log p at the points up to a constant, nats.
        seed: of the starting means.
        candidates: numbers of components, ascending.
    """
    size, event_size = points.shape
    finite = np.isfinite(log_density)
    best, best_bic, best_numbers, rises = moments(points), np.inf, 0, 0
    for num_components in candidates:
        numbers = num_components * (1 + event_size + event_size * (event_size + 1) // 2) - 1
        gaps = (log_density - logsumexp(log_prob(best, points), 1))[finite]
        missing = np.var(gaps) if len(gaps) else np.inf
        affordable = (numbers - best_numbers) * np.log(size) < 2.0 * size * missing
        if numbers > size or (best_numbers and not affordable):
            break
        base, log_likelihood = _expectation_maximisation(points, num_components, seed)
        bic = -2.0 * log_likelihood + numbers * np.log(size)
        if bic < best_bic:
            best, best_bic, best_numbers, rises = base, bic, numbers, 0
        else:
            rises += 1
            if rises == 2:
                break
    return best


def moments(points: Array) -> Base:
    """One Gaussian with the points' mean and covariance; shrunk to its diagonal when there are few points."""
    size, event_size = points.shape
    covariance = np.atleast_2d(np.cov(points.T))
    shrink = min(1.0, event_size / size)
    covariance = (1.0 - shrink) * covariance + shrink * np.diag(np.diag(covariance))
    return Base(np.zeros(1), points.mean(0)[None], np.linalg.cholesky(covariance)[None])


def log_prob(base: Base, points: Array) -> Array:
    """[N, D] -> log density of each component, weight included, [N, K]."""
    event_size = points.shape[1]
    inverses = np.linalg.inv(base.scale_trils)
    noise = points @ inverses.transpose(0, 2, 1) - np.einsum("kij,kj->ki", inverses, base.means)[:, None]
    log_det = np.log(np.diagonal(inverses, axis1=1, axis2=2)).sum(1)
    constant = base.log_weights + log_det - 0.5 * event_size * np.log(2.0 * np.pi)
    return (constant[:, None] - 0.5 * (noise**2).sum(-1)).T


def _expectation_maximisation(
    points: Array, num_components: int, seed: int, iterations: int = 60
) -> tuple[Base, float]:
    """Mixture and its log likelihood; ends when an iteration gains less than 1e-4 nats a point."""
    size, event_size = points.shape
    rng = np.random.default_rng(seed)
    total = np.atleast_2d(np.cov(points.T))
    floor = 1e-3 * np.diag(np.diag(total))
    spread = total / num_components ** (2.0 / event_size) + floor
    base = Base(
        np.full(num_components, -np.log(num_components)),
        points[_spread_points(points / np.sqrt(np.diag(total)), num_components, rng)],
        np.repeat(np.linalg.cholesky(spread)[None], num_components, 0),
    )
    previous = -np.inf
    for _ in range(iterations):
        log_joint = log_prob(base, points)
        log_marginal = logsumexp(log_joint, 1)
        if log_marginal.sum() - previous < 1e-4 * size:
            break
        previous = log_marginal.sum()
        share = np.exp(log_joint - log_marginal[:, None])
        count = share.sum(0) + 1e-10
        means = share.T @ points / count[:, None]
        scale_trils = np.empty((num_components, event_size, event_size))
        for k in range(num_components):
            centred = points - means[k]
            # A weak prior at the pooled scales keeps small components from collapsing.
            covariance = (share[:, k, None] * centred).T @ centred + event_size * floor
            scale_trils[k] = np.linalg.cholesky(covariance / (count[k] + event_size) + floor)
        base = Base(np.log(count / count.sum()), means, scale_trils)
    return base, float(logsumexp(log_prob(base, points), 1).sum())


def _spread_points(points: Array, num: int, rng: np.random.Generator) -> Array:
    """Indices of ``num`` well separated points (k-means++: Arthur & Vassilvitskii 2007)."""
    chosen = [int(rng.integers(len(points)))]
    distance = ((points - points[chosen[0]]) ** 2).sum(1)
    for _ in range(num - 1):
        chosen.append(int(rng.choice(len(points), p=distance / distance.sum())))
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(1))
    return np.array(chosen)
