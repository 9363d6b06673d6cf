"""Pareto-smoothed importance sampling through ArviZ (Vehtari, Simpson, Gelman, Yao & Gabry, JMLR 25, 2024)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from neural_vb._types import Array
from neural_vb.errors import MissingDependencyError

USABLE = 0.7  # largest k-hat at which importance estimates from some thousand draws are usable


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
    with np.errstate(over="ignore"):  # ArviZ: a hopeless fit of the tail among others has the weight 1 / inf
        weights, pareto_k = _psislw()(log_ratios[finite])
    tail = max(int(np.ceil(min(0.2 * finite.sum(), 3.0 * np.sqrt(finite.sum())))), 1)
    # Bounded by a value that many draws share, there is no tail to fit, which ArviZ calls infinite.
    bounded = np.ptp(np.partition(log_ratios[finite], -tail)[-tail:]) == 0.0
    smoothed = np.full(log_ratios.shape, -np.inf)
    smoothed[finite] = np.asarray(weights)
    return SmoothedWeights(smoothed, 0.0 if bounded else float(pareto_k))


def resample(log_ratios: Array, num: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Which draws to keep so that those from r become some from p: sampling-importance-resampling, smoothed.

    Args:
        log_ratios: [S, B], log p - log r of draws from r for B densities.
        num: of draws to keep.
        rng: of the resampling.

    Returns:
        Indices [num, B] in random order, and k-hat of each density, [B].
    """
    smoothed = [smooth(column) for column in np.asarray(log_ratios).T]
    chosen = np.array([systematic(one.log_weights, num, rng) for one in smoothed])
    return rng.permuted(chosen, axis=1).T, np.array([one.pareto_k for one in smoothed])


def systematic(log_weights: Array, num: int, rng: np.random.Generator) -> Array:
    """Ascending indices [num]: one of normalised weight w appears floor(num w) or one more times."""
    ladder = (np.arange(num) + rng.random()) / num
    return np.searchsorted(np.cumsum(np.exp(log_weights)), ladder).clip(max=len(log_weights) - 1)


def load() -> None:
    """Import ArviZ, which takes a second: where XLA compiles meanwhile, that is free.

    Raises:
        MissingDependencyError: when ArviZ is not installed.
    """
    _psislw()


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
