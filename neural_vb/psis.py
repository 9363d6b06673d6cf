"""Pareto-smoothed importance sampling through ArviZ (Vehtari, Simpson, Gelman, Yao & Gabry, JMLR 25, 2024)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from neural_vb._types import Array
from neural_vb.errors import MissingDependencyError


class SmoothedWeights(NamedTuple):
    """Normalised log weights [S] and the Pareto shape k-hat of their tail."""

    log_weights: Array
    pareto_k: float


def smooth(log_ratios: Array) -> SmoothedWeights:
    """Smooth the importance ratios log p - log r of draws from r.

    Args:
        log_ratios: [S], in nats; any common offset is irrelevant. -inf is a weight of zero.

    Returns:
        Log weights [S] with logsumexp zero, and k-hat: below .7 (for large S) importance estimates are usable.

    Raises:
        MissingDependencyError: when ArviZ is not installed.
    """
    log_ratios = np.asarray(log_ratios, np.float64)
    finite = np.isfinite(log_ratios)
    if finite.sum() < 25:
        return SmoothedWeights(np.where(finite, -np.log(max(finite.sum(), 1)), -np.inf), np.inf)
    weights, pareto_k = _psislw()(log_ratios[finite])
    smoothed = np.full(log_ratios.shape, -np.inf)
    smoothed[finite] = np.asarray(weights)
    return SmoothedWeights(smoothed, float(pareto_k))


def _psislw() -> Callable[[Array], tuple[Array, Array]]:
    """ArviZ 0.x has `arviz.psislw`; ArviZ 1.x keeps one in `arviz_stats.base`, which wants the ratios negated."""
    try:
        import arviz
    except ImportError as error:
        raise MissingDependencyError(
            expected="ArviZ for Pareto-smoothed importance sampling",
            got="no module named arviz",
            fix="pip install arviz",
        ) from error
    if hasattr(arviz, "psislw"):
        return lambda ratios: arviz.psislw(ratios)
    from arviz_stats.base import array_stats

    return lambda ratios: array_stats.psislw(-ratios)
