"""Gaussian mixtures fitted to particles: expectation-maximisation, with the number of components chosen by BIC."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from neural_vb._types import Array, Base

COMPONENTS = (1, 2, 3, 4, 6, 8, 12, 16)


def fit(
    points: Array,
    log_density: Array,
    *,
    seed: int,
    candidates: tuple[int, ...] = COMPONENTS,
    penalty: float | None = None,
    start: Base | None = None,
) -> Base:
    """The mixture with the smallest BIC over ``candidates`` components; stops at the second rise in a row.

    BIC = -2 log L + (K - 1 + K D + K D (D + 1) / 2) log N (Schwarz 1978). No mixture can gain more log likelihood over
    the best so far than N KL(p || best), and that is about N Var(log p - log best) / 2 when it is small: mixtures that
    could not pay for their parameters with twice as much are not tried.

    Args:
        points: [N, D], from p.
        log_density: [N], log p at the points up to a constant, nats.
        seed: of the starting means.
        candidates: numbers of components, ascending.
        penalty: for each parameter; log N in BIC, the default. 2 is AIC, for prediction from many points.
        start: a mixture that is improved first; more components than it has must do better.
    """
    size, event_size = points.shape
    finite = np.isfinite(log_density)
    penalty = np.log(size) if penalty is None else penalty
    best, best_bic, best_numbers, rises = moments(points), np.inf, 0, 0
    if start is not None:
        best, log_likelihood = _expectation_maximisation(points, start)
        best_numbers = _count(len(start.log_weights), event_size)
        best_bic = -2.0 * log_likelihood + best_numbers * penalty
    for num_components in candidates:
        numbers = _count(num_components, event_size)
        gaps = (log_density - logsumexp(log_prob(best, points), 1))[finite]
        missing = np.var(gaps) if len(gaps) else np.inf
        affordable = (numbers - best_numbers) * penalty < 2.0 * size * missing
        if numbers > size or (best_numbers and not affordable):
            break
        base, log_likelihood = _expectation_maximisation(points, _dispersed(points, num_components, seed))
        bic = -2.0 * log_likelihood + numbers * penalty
        if bic < best_bic:
            best, best_bic, best_numbers, rises = base, bic, numbers, 0
        else:
            rises += 1
            if rises == 2:
                break
    return best


def _count(num_components: int, event_size: int) -> int:
    """Free parameters."""
    return num_components * (1 + event_size + event_size * (event_size + 1) // 2) - 1


def sample(base: Base, num: int, rng: np.random.Generator) -> Array:
    """Independent draws [num, D]."""
    chosen = rng.choice(len(base.log_weights), num, p=np.exp(base.log_weights) / np.exp(base.log_weights).sum())
    draws = rng.standard_normal((num, base.means.shape[1]))
    for k, (mean, scale_tril) in enumerate(zip(base.means, base.scale_trils, strict=True)):
        draws[chosen == k] = mean + draws[chosen == k] @ scale_tril.T
    return draws


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


def _dispersed(points: Array, num_components: int, seed: int) -> Base:
    """Equal weights, well separated means, and the pooled covariance, narrower the more there are."""
    total = np.atleast_2d(np.cov(points.T))
    spread = total / num_components ** (2.0 / points.shape[1]) + _floor(points)
    chosen = _spread_points(points / np.sqrt(np.diag(total)), num_components, np.random.default_rng(seed))
    return Base(
        np.full(num_components, -np.log(num_components)),
        points[chosen],
        np.repeat(np.linalg.cholesky(spread)[None], num_components, 0),
    )


def _floor(points: Array) -> Array:
    return 1e-3 * np.diag(np.atleast_1d(points.var(0, ddof=1)))


def _expectation_maximisation(points: Array, base: Base, iterations: int = 60) -> tuple[Base, float]:
    """Mixture and its log likelihood; ends when an iteration gains less than 1e-4 nats a point."""
    size, event_size = points.shape
    num_components, floor = len(base.log_weights), _floor(points)
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
