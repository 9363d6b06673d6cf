"""Are whole numbers uniform? An exact simultaneous test of their empirical distribution, and its bands.

Of N ranks, uniform on 0, …, M - 1, the number below a cut c is binomial, N F(c) ~ Bin(N, c / M). A path of such counts
is as extreme as its most extreme point,

    gamma = min_c 2 min(P(Bin ≤ N F(c)), P(Bin ≥ N F(c))),

and a band of simultaneous coverage 1 - alpha is made of pointwise intervals of coverage 1 - gamma(alpha). The
distribution of gamma is computed, not simulated: multinomial counts are independent Poisson counts given their total,
so the probability of a path within a band is a chain of convolutions.

Säilynoja, Bürkner & Vehtari (2022), Graphical test for discrete uniformity and its applications in goodness-of-fit
evaluation and multiple sample comparison, https://arxiv.org/abs/2103.10522, section 2.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import bdtr, gammaln, xlogy

from neural_vb._types import Array

MAX_CUTS = 255  # more of them change neither the picture nor the power, only the time


class Band(NamedTuple):
    """Counts below each cut that are inside: lower ≤ N F(c) ≤ upper for all cuts at once.

    Attributes:
        cuts: [C], increasing, from 1 to M - 1; all of them when M ≤ 256, else 255 almost evenly spaced ones.
        lower: [C], whole numbers.
        upper: [C], whole numbers.
    """

    cuts: Array
    lower: Array
    upper: Array


def counts_below(ranks: Array, num_values: int) -> tuple[Array, Array]:
    """Cuts c [C] and the number of ranks below each, N F(c) [C]; ranks are whole numbers in 0, …, M - 1."""
    cuts = _cuts(num_values)
    return cuts, np.searchsorted(np.sort(ranks), cuts, side="left")


def pvalue(ranks: Array, num_values: int) -> float:
    """P(gamma ≤ the gamma of these ranks) if they are independent and uniform: exact for every N and M.

    Args:
        ranks: [N], whole numbers in 0, …, M - 1.
        num_values: M, at least 2.
    """
    cuts, counts = counts_below(ranks, num_values)
    size = len(ranks)
    low, high = _tails(counts, cuts, size, num_values)
    gamma = float(np.minimum(1.0, 2.0 * np.minimum(low, high).min()))
    if gamma == 1.0:
        return 1.0
    outside = 1.0 - _coverage(_band(gamma, cuts, size, num_values), size, num_values)
    # One tail of the most extreme cut alone: a bound from below where the difference drowns in rounding.
    return float(np.clip(outside, gamma / 2.0, 1.0))


def band(num_ranks: int, num_values: int, *, coverage: float = 0.95) -> Band:
    """The narrowest band whose simultaneous coverage of N uniform ranks is at least the one wanted.

    Ranks leave the band exactly when ``pvalue(ranks, M) ≤ 1 - coverage``.

    Args:
        num_ranks: N.
        num_values: M, at least 2.
        coverage: in (0, 1).
    """
    cuts = _cuts(num_values)
    # By the union bound gamma lies between alpha / (2 C) and alpha, or a little above where counts are coarse.
    narrow, wide = 2.0, (1.0 - coverage) / (2.0 * len(cuts))
    while narrow > wide * (1.0 + 1e-9):
        middle = float(np.sqrt(narrow * wide))
        if _coverage(_band(middle, cuts, num_ranks, num_values), num_ranks, num_values) >= coverage:
            wide = middle
        else:
            narrow = middle
    return _band(wide, cuts, num_ranks, num_values)


def _cuts(num_values: int) -> Array:
    bins = min(num_values, MAX_CUTS + 1)
    return np.round(np.arange(1, bins) * (num_values / bins)).astype(np.int64)


def _tails(counts: Array, cuts: Array, size: int, num_values: int) -> tuple[Array, Array]:
    """P(Bin ≤ counts) and P(Bin ≥ counts), the latter as the lower tail of the ranks that are not below."""
    return bdtr(counts, size, cuts / num_values), bdtr(size - counts, size, (num_values - cuts) / num_values)


def _band(gamma: float, cuts: Array, size: int, num_values: int) -> Band:
    """Counts whose smaller tail is above gamma / 2, strictly: a path with this very gamma is outside."""
    lower = _smallest(gamma / 2.0, cuts, size, num_values)
    return Band(cuts, lower, size - _smallest(gamma / 2.0, num_values - cuts, size, num_values))


def _smallest(tail: float, cuts: Array, size: int, num_values: int) -> Array:
    """The smallest count n with P(Bin ≤ n) > tail, by bisection, so that it is true to the last bit."""
    below, above = np.full(cuts.shape, -1), np.full(cuts.shape, size)
    for _ in range(int(size + 1).bit_length()):
        middle = (below + above) // 2
        inside = (bdtr(np.maximum(middle, 0), size, cuts / num_values) > tail) & (middle >= 0)
        below, above = np.where(inside, below, middle), np.where(inside, middle, above)
    return above


def _coverage(inside: Band, size: int, num_values: int) -> float:
    """P(lower ≤ N F(c) ≤ upper for all c)."""
    if np.any(inside.lower > inside.upper):
        return 0.0
    widths = np.diff(inside.cuts, prepend=0, append=num_values)
    kernels = {width: _poisson(size, size * width / num_values) for width in np.unique(widths)}
    reached, first = np.ones(1), 0
    for width, lower, upper in zip(widths, (*inside.lower, size), (*inside.upper, size), strict=True):
        more = np.convolve(reached, kernels[width][: upper - first + 1])
        reached, first = more[lower - first : upper - first + 1], lower
    return float(reached[0] / _poisson(size, float(size))[size])


def _poisson(largest: int, mean: float) -> Array:
    """P(Poisson = n) for n = 0, …, largest."""
    n = np.arange(largest + 1)
    return np.exp(xlogy(n, mean) - mean - gammaln(n + 1.0))
