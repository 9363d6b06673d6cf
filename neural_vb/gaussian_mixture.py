"""Gaussian mixtures fitted to particles: expectation-maximisation, with the number of components chosen by BIC."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from neural_vb._types import Array, Base

COMPONENTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
CHUNK = 2**23  # numbers; the features of more points are not kept, but made again, in pieces


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
        start: a mixture that is improved first, if it has fewer numbers than there are points; more components than it
            has must do better.
    """
    size, event_size = points.shape
    finite = np.isfinite(log_density)
    penalty = np.log(size) if penalty is None else penalty
    best, best_bic, best_numbers, rises = moments(points), np.inf, 0, 0
    if start is not None:
        best_numbers = count(len(start.log_weights), event_size)
        if best_numbers > size:
            return start
        best, log_likelihood = _expectation_maximisation(points, start)
        best_bic = -2.0 * log_likelihood + best_numbers * penalty
    for num_components in candidates:
        numbers = count(num_components, event_size)
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


def count(num_components: int, event_size: int) -> int:
    """Free parameters."""
    return num_components * (1 + event_size + event_size * (event_size + 1) // 2) - 1


def sample(base: Base, num: int, rng: np.random.Generator) -> Array:
    """Independent draws [num, D]."""
    chosen = rng.choice(len(base.log_weights), num, p=np.exp(base.log_weights) / np.exp(base.log_weights).sum())
    draws = rng.standard_normal((num, base.means.shape[1]))
    for k, (mean, scale_tril) in enumerate(zip(base.means, base.scale_trils, strict=True)):
        draws[chosen == k] = mean + draws[chosen == k] @ scale_tril.T
    return draws


def moments(points: Array, scores: Array | None = None) -> Base:
    """One Gaussian with the mean and covariance of p, from points near it; off the diagonal shrunk when these are few.

    With scores s, the gradients of log p at the points, E_p[s] = 0 and E_p[(u - m) s^T] = -I serve as control variates
    (Mira, Solgi & Imparato, Statistics and Computing 23, 2013): for any diagonal B and r = u + B s

        m = E[r],    covariance = E[(u - m) (r - m)^T] + B,

    and r is constant where p is Gaussian with as many scales as B has numbers. B is taken by regression, coordinate by
    coordinate: small where scores are wild.

    Args:
        points: [N, D].
        scores: [N, D], or None.
    """
    size, event_size = points.shape
    factors, rest = np.zeros(event_size), points
    if scores is not None:
        centred = points - points.mean(0)
        variances = scores.var(0)
        product = -(centred * scores).mean(0)
        factors = np.divide(product, variances, out=factors, where=variances > 0.0).clip(0.0)
        rest = points + factors * scores
    mean = rest.mean(0)
    outer = (points - mean).T @ (rest - mean) / (size - 1)
    covariance = 0.5 * (outer + outer.T) + np.diag(factors)
    diagonal = np.diag(np.diag(covariance))
    shrink = min(1.0, event_size / size) * min(1.0, float((rest.var(0) / points.var(0)).mean()))
    try:
        scale_tril = np.linalg.cholesky((1.0 - shrink) * covariance + shrink * diagonal)
    except np.linalg.LinAlgError:
        if scores is None:
            raise
        return moments(points)
    return Base(np.zeros(1), mean[None], scale_tril[None])


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


class _Statistics(NamedTuple):
    """What an iteration of expectation-maximisation asks of the points: one, u and u u^T weighted by the components.

    Attributes:
        log_likelihood: nats.
        sums: [K, 1 + D + D (D + 1) / 2].
    """

    log_likelihood: float
    sums: Array


def _features(points: Array) -> Array:
    """[N, D] -> [N, F] with F = 1 + D + D (D + 1) / 2: one, u, and the lower triangle of u u^T.

    A Gaussian's log density is a linear function of them: each half of an iteration is one product of matrices.
    """
    rows, columns = np.tril_indices(points.shape[1])
    return np.concatenate([np.ones((len(points), 1)), points, points[:, rows] * points[:, columns]], 1)


def _coefficients(base: Base) -> Array:
    """Of the features in the components' log densities, weights included, [K, F]."""
    event_size = base.means.shape[1]
    rows, columns = np.tril_indices(event_size)
    inverses = np.linalg.inv(base.scale_trils)
    precisions = inverses.transpose(0, 2, 1) @ inverses
    linear = np.einsum("kij,kj->ki", precisions, base.means)
    log_det = np.log(np.diagonal(inverses, axis1=1, axis2=2)).sum(1)
    constant = base.log_weights + log_det - 0.5 * event_size * np.log(2.0 * np.pi)
    constant = constant - 0.5 * (linear * base.means).sum(1)
    quadratic = -precisions[:, rows, columns] * np.where(rows == columns, 0.5, 1.0)
    return np.concatenate([constant[:, None], linear, quadratic], 1)


def _expect(pieces: Iterable[Array], base: Base) -> _Statistics:
    """From the points' features, in pieces [n, F]."""
    coefficients = _coefficients(base)
    log_likelihood, sums = 0.0, np.zeros(coefficients.shape)
    for features in pieces:
        log_joint = features @ coefficients.T
        top = log_joint.max(1, keepdims=True)
        share = np.exp(log_joint - top)
        total = share.sum(1, keepdims=True)
        log_likelihood += float((np.log(total) + top).sum())
        sums += (share / total).T @ features
    return _Statistics(log_likelihood, sums)


def _expectation_maximisation(points: Array, base: Base, iterations: int = 60) -> tuple[Base, float]:
    """Mixture and its log likelihood; ends when an iteration gains less than 1e-4 nats a point."""
    size, event_size = points.shape
    rows, columns = np.tril_indices(event_size)
    pieces = np.array_split(points, -(-size * (1 + event_size + len(rows)) // CHUNK))
    kept = [_features(points)] if len(pieces) == 1 else None
    floor = _floor(points)

    def expect(base: Base) -> _Statistics:
        return _expect(kept or map(_features, pieces), base)

    expected = expect(base)
    for _ in range(iterations):
        count = expected.sums[:, 0] + 1e-10
        means = expected.sums[:, 1 : 1 + event_size] / count[:, None]
        second = np.empty((len(count), event_size, event_size))
        second[:, rows, columns] = second[:, columns, rows] = expected.sums[:, 1 + event_size :]
        covariances = second - count[:, None, None] * means[:, :, None] * means[:, None, :]
        # A weak prior at the pooled scales keeps small components from collapsing.
        covariances = (covariances + event_size * floor) / (count[:, None, None] + event_size) + floor
        base = Base(np.log(count / count.sum()), means, np.linalg.cholesky(covariances))
        previous, expected = expected, expect(base)
        if expected.log_likelihood - previous.log_likelihood < 1e-4 * size:
            break
    return base, expected.log_likelihood


def _spread_points(points: Array, num: int, rng: np.random.Generator) -> Array:
    """Indices of ``num`` well separated points (k-means++: Arthur & Vassilvitskii 2007)."""
    chosen = [int(rng.integers(len(points)))]
    distance = ((points - points[chosen[0]]) ** 2).sum(1)
    for _ in range(num - 1):
        chosen.append(int(rng.choice(len(points), p=distance / distance.sum())))
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(1))
    return np.array(chosen)
