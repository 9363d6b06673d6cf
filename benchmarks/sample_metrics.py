"""Distances between two small samples that need all pairs: exact Wasserstein and maximum mean discrepancy.

Both see a sample's first thousand draws. Their floors are large at that size and in many dimensions, so that each is
told beside what two exact samples of the same size get.
"""

from __future__ import annotations

import math

import numpy as np

from benchmarks.definitions import Array

SUBSAMPLE = 1_000


def squared_distances(a: Array, b: Array) -> Array:
    """[N, D] and [M, D] -> [N, M]."""
    square = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2.0 * a @ b.T
    return np.maximum(square, 0.0)


def wasserstein(a: Array, b: Array) -> float:
    """Exact 1-Wasserstein distance of two samples [N, D] of equal size: the mean length of the best matching."""
    from scipy.optimize import linear_sum_assignment

    lengths = np.sqrt(squared_distances(a, b))
    return float(lengths[linear_sum_assignment(lengths)].mean())


def maximum_mean_discrepancy(a: Array, b: Array) -> float:
    """MMD of two samples [N, D] and [M, D]: the root of the V-statistic, with an inverse multiquadric kernel.

    k(x, y) = (1 + |x - y|^2 / h)^(-1/2), h the median of |x - y|^2 over pairs of b, the reference (Gretton et al. 2012,
    JMLR 13, 723-773).
    """
    within = squared_distances(b, b)
    width = float(np.median(within[np.triu_indices(len(b), 1)]))

    def mean(squares: Array) -> float:
        return float((1.0 / np.sqrt(1.0 + squares / width)).mean())

    return math.sqrt(max(mean(squared_distances(a, a)) + mean(within) - 2.0 * mean(squared_distances(a, b)), 0.0))


def with_floors(draws: Array, reference: Array, sd: Array) -> dict[str, float]:
    """``w1`` and ``mmd`` of draws [S, D] to a reference [S', D], coordinates in units of sd [D], and their floors.

    The floor is the distance between two parts of the reference, each as large as what is compared. Draws that are not
    finite get NaN.
    """
    number = min(SUBSAMPLE, len(draws), len(reference) // 2)
    a, b, other = draws[:number] / sd, reference[:number] / sd, reference[number : 2 * number] / sd
    found = {"w1_floor": wasserstein(other, b), "mmd_floor": maximum_mean_discrepancy(other, b)}
    if not np.isfinite(a).all():
        return found | {"w1": math.nan, "mmd": math.nan}
    return found | {"w1": wasserstein(a, b), "mmd": maximum_mean_discrepancy(a, b)}
