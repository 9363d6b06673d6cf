"""Kernel tests without tolerances: p-values that tell whether there is any error at all, large or not."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neural_vb._types import Array

NUM_BOOTSTRAP = 300
LARGEST = 1_000  # draws: time and memory go with their square


class KernelTest(NamedTuple):
    """A squared discrepancy, and the share of resamplings under the hypothesis that reach it."""

    statistic: float
    pvalue: float


def stein_discrepancy(u: Array, scores: Array, *, seed: int = 0) -> KernelTest:
    """Kernel Stein discrepancy of draws from a density whose score is known, with a wild bootstrap.

    k(x, y) = (1 + |x - y|^2)^(-1/2), the inverse multiquadric, under which the discrepancy tells convergence (Gorham &
    Mackey, ICML 2017, arXiv 1703.01717); the bootstrap is that of Chwialkowski, Strathmann & Gretton (ICML 2016). It
    loses power with the dimension, and sees nothing of the weights of far modes.

    Args:
        u: [n, D], in coordinates in which the density is about standard; the first ``LARGEST`` are used.
        scores: [n, D], gradient of log p in the same coordinates.
        seed: of the bootstrap.
    """
    u, s = np.asarray(u[:LARGEST], np.float64), np.asarray(scores[:LARGEST], np.float64)
    size = u.shape[1]
    square = (u**2).sum(1)[:, None] + (u**2).sum(1) - 2.0 * u @ u.T
    base = 1.0 + np.maximum(square, 0.0)
    first, third = base**-1.5, base**-2.5
    # s_x.s_y k + s_x.grad_y k + s_y.grad_x k + tr grad_x grad_y k, with grad_y k = (x - y) base^(-3/2)
    across = s @ u.T
    drift = (np.diag(across)[:, None] - across) + (np.diag(across)[None, :] - across.T)
    stein = (s @ s.T) * base**-0.5 + drift * first + size * first - 3.0 * square * third
    rng = np.random.default_rng([seed, 3])
    return _wild(stein, rng)


def _wild(matrix: Array, rng: np.random.Generator) -> KernelTest:
    num = len(matrix)
    statistic = float(matrix.mean())
    signs = rng.choice([-1.0, 1.0], (NUM_BOOTSTRAP, num))
    resampled = np.einsum("bi,bi->b", signs @ matrix, signs) / num**2
    return KernelTest(statistic, float((1 + (resampled >= statistic).sum()) / (1 + NUM_BOOTSTRAP)))


def mean_discrepancy(first: Array, second: Array, *, seed: int = 0) -> KernelTest:
    """Squared maximum mean discrepancy of two independent samples, by permutation (Gretton et al., JMLR 13, 2012).

    k(x, y) = (1 + |x - y|^2 / median)^(-1/2).

    Args:
        first: [n, D]; the first ``LARGEST`` are used.
        second: [n, D].
        seed: of the permutations.
    """
    num = min(len(first), len(second), LARGEST)
    both = np.concatenate([first[:num], second[:num]]).astype(np.float64)
    length = (both**2).sum(1)
    square = np.maximum(length[:, None] + length - 2.0 * both @ both.T, 0.0)
    kernel = 1.0 / np.sqrt(1.0 + square / (np.median(square) + 1e-300))
    np.fill_diagonal(kernel, 0.0)
    rng = np.random.default_rng([seed, 4])
    signs = np.concatenate([np.ones(num), -np.ones(num)])
    permuted = rng.permuted(np.tile(signs, (NUM_BOOTSTRAP, 1)), axis=1)
    statistic = float(signs @ kernel @ signs) / num**2
    resampled = np.einsum("bi,bi->b", permuted @ kernel, permuted) / num**2
    return KernelTest(statistic, float((1 + (resampled >= statistic - 1e-12).sum()) / (1 + NUM_BOOTSTRAP)))
