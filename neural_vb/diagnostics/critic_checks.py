"""Is the critic at its optimum log q - log r? Only there is E_q[log p - log r - T] the ELBO."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import expit

from neural_vb._types import Array

NUM_STEPS = 20
MAX_SQUARES = 20  # dimensions up to which products of coordinates are features
RIDGE = 1e-4


class CriticReport(NamedTuple):
    """What fresh draws of q and r say of a critic T.

    Attributes:
        accuracy: share of draws attributed correctly; .5 when q = r.
        slope: of a logistic regression of origin on T: 1 at the optimum, below it where T is overconfident.
        intercept: of the same: 0 at the optimum.
        calibration_error: mean |observed - predicted share of q| over ten bins of T.
        gain: nats of cross-entropy that a refitted T gains on draws that it has not seen.
        elbo_change: change of the ELBO estimate with the refitted T, nats.
        elbo_change_error: its standard error.
        excess: E_r[e^T] - 1, zero at the optimum, where r e^T = q has mass one.
    """

    accuracy: float
    slope: float
    intercept: float
    calibration_error: float
    gain: float
    elbo_change: float
    elbo_change_error: float
    excess: float


def critic_report(
    u_q: Array, u_r: Array, t_q: Array, t_r: Array, *, gaps: tuple[Array, Array] | None = None
) -> CriticReport:
    """Judge T on fresh draws of q and r; half of them refit it, the other half judge the refit.

    The refit adds a + b T + c (log p - log r) + quadratic in u to T, by logistic regression: near q = p the optimum is
    log p - log r up to a constant, and a quadratic is what Gaussians differ by.

    Args:
        u_q: [n, D], draws of q, in coordinates in which they are about standard.
        u_r: [n, D], draws of the contrast.
        t_q: [n], T at them.
        t_r: [n].
        gaps: log p - log r [n] at both, or None.

    Returns:
        A :class:`CriticReport`.
    """
    t_q, t_r = np.asarray(t_q, np.float64), np.asarray(t_r, np.float64)
    logits = np.concatenate([t_q, t_r])
    labels = np.concatenate([np.ones(len(t_q)), np.zeros(len(t_r))])
    plain = np.stack([np.ones_like(logits), logits], 1)
    (intercept, slope), _ = _logistic(plain, labels, np.zeros_like(logits), np.array([0.0, 1.0]))

    features = _features(np.concatenate([u_q, u_r]), logits, gaps)
    train = np.arange(len(labels)) % 2 == 0
    mean, sd = features[train].mean(0), features[train].std(0)
    features = np.where(sd > 1e-8, (features - mean) / np.maximum(sd, 1e-8), 0.0)
    features[:, 0] = 1.0
    found, covariance = _logistic(features[train], labels[train], logits[train], np.zeros(features.shape[1]))
    change = features @ found
    test = ~train
    gain = _entropy(logits[test], labels[test]) - _entropy((logits + change)[test], labels[test])
    moved = -change[test & (labels == 1.0)]
    # The refit has an error of its own, that of its parameters.
    direction = features[test & (labels == 1.0)].mean(0)
    noise = np.sqrt(max(direction @ covariance @ direction, 0.0))
    return CriticReport(
        accuracy=float(0.5 * ((t_q > 0).mean() + (t_r <= 0).mean())),
        slope=float(slope),
        intercept=float(intercept),
        calibration_error=_calibration_error(logits, labels),
        gain=float(gain),
        elbo_change=float(moved.mean()),
        elbo_change_error=float(np.hypot(moved.std() / np.sqrt(len(moved)), noise)),
        excess=float(np.exp(np.minimum(t_r, 50.0)).mean() - 1.0),
    )


def _features(u: Array, logits: Array, gaps: tuple[Array, Array] | None) -> Array:
    u = np.clip(u, -6.0, 6.0)
    parts = [np.ones((len(u), 1)), np.clip(logits, -20, 20)[:, None], u, u**2]
    if u.shape[1] <= MAX_SQUARES:
        first, second = np.triu_indices(u.shape[1], 1)
        parts.append(u[:, first] * u[:, second])
    if gaps is not None:
        gap = np.concatenate(gaps)
        gap = np.where(np.isfinite(gap), gap, np.nanmin(np.where(np.isfinite(gap), gap, np.nan)))
        parts.append(np.clip(gap - np.median(gap), -20.0, 20.0)[:, None])
    return np.concatenate(parts, 1)


def _logistic(features: Array, labels: Array, offset: Array, start: Array) -> tuple[Array, Array]:
    """Coefficients of a logistic regression with an offset and a small ridge, and their covariance."""
    w = start.copy()
    ridge = RIDGE * np.eye(features.shape[1]) * len(labels)
    ridge[0, 0] = 0.0
    for _ in range(NUM_STEPS):
        share = expit(np.clip(offset + features @ w, -50.0, 50.0))
        hessian = features.T @ (features * np.maximum(share * (1.0 - share), 1e-6)[:, None]) + ridge
        step = np.linalg.solve(hessian + 1e-9 * np.eye(len(w)), features.T @ (labels - share) - ridge @ (w - start))
        w = w + step * min(1.0, 5.0 / (np.abs(step).max() + 1e-12))
        if np.abs(step).max() < 1e-6:
            break
    return w, np.linalg.inv(hessian + 1e-9 * np.eye(len(w)))


def _entropy(logits: Array, labels: Array) -> float:
    return float((np.logaddexp(0.0, logits) - labels * logits).mean() * 2.0)


def _calibration_error(logits: Array, labels: Array) -> float:
    # Ties in random order: a critic that says the same of all draws has bins of both kinds.
    order = np.lexsort((np.random.default_rng(0).random(len(logits)), logits))
    pieces = np.array_split(order, 10)
    predicted = expit(np.clip(logits, -50.0, 50.0))
    return float(np.mean([abs(labels[piece].mean() - predicted[piece].mean()) for piece in pieces]))
