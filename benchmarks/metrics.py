"""Distances between draws and a reference, in NumPy.

Shapes: draws are [S, D]; a reference mean or sd is [D]. Errors are in units of the reference sd, so they have no unit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Array = np.ndarray

NUM_DIRECTIONS = 100
DIRECTIONS_SEED = 0


def max_mean_error(draws: Array, mean: Array, sd: Array) -> float:
    """Largest mean error over coordinates: max_d |mean(draws_d) - mean_d| / sd_d. Draws [S, D]; mean, sd [D]."""
    return float(np.max(np.abs(draws.mean(axis=0) - mean) / sd))


def rms_mean_error(draws: Array, mean: Array, sd: Array) -> float:
    """Root of the mean square over coordinates of (mean(draws_d) - mean_d) / sd_d."""
    return float(np.sqrt(np.mean(((draws.mean(axis=0) - mean) / sd) ** 2)))


def max_second_moment_error(draws: Array, reference: Array) -> float:
    """max_d (E theta_d^2 - E_ref theta_d^2)^2 / Var_ref theta_d^2, the criterion of posteriordb's users.

    Draws [S, D] and [S', D]. About 1 / S + 1 / S' for exact draws; .01 is a tenth of an sd of theta^2.
    """
    squares = reference**2
    return float(np.max(((draws**2).mean(axis=0) - squares.mean(axis=0)) ** 2 / squares.var(axis=0)))


def max_correlation_error(draws: Array, reference: Array) -> float:
    """Largest difference of a correlation of two coordinates; 0 for D = 1."""
    if draws.shape[1] == 1:
        return 0.0
    return float(np.abs(np.corrcoef(draws.T) - np.corrcoef(reference.T)).max())


def sd_ratios(draws: Array, sd: Array) -> Array:
    """Sample sd over reference sd, [D]. Draws [S, D]; sd [D]."""
    return draws.std(axis=0, ddof=1) / sd


def max_sd_error(draws: Array, sd: Array) -> float:
    """Largest relative error of an sd: max_d |sd(draws_d) / sd_d - 1|; .05 means "within 5 %"."""
    return float(np.max(np.abs(sd_ratios(draws, sd) - 1.0)))


def max_log_sd_ratio(draws: Array, sd: Array) -> float:
    """Largest |log(sd(draws_d) / sd_d)| over coordinates; infinite where the draws do not move."""
    with np.errstate(divide="ignore"):
        return float(np.max(np.abs(np.log(sd_ratios(draws, sd)))))


def directions(size: int, num: int = NUM_DIRECTIONS, *, seed: int = DIRECTIONS_SEED) -> Array:
    """Unit vectors, uniform on the sphere: [num, size]."""
    vectors = np.random.default_rng(seed).standard_normal((num, size))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def wasserstein_1d(a: Array, b: Array) -> Array:
    """1-Wasserstein distance along axis 0: W = integral_0^1 |F_a^-1(t) - F_b^-1(t)| dt.

    Args:
        a: [S_a, K].
        b: [S_b, K].

    Returns:
        [K]. With equal sizes this is the mean absolute difference of order statistics. With unequal sizes both
        empirical quantile functions are steps, and the integral is exact over the union of their jumps.
    """
    a, b = np.sort(a, axis=0), np.sort(b, axis=0)
    if len(a) == len(b):
        return np.abs(a - b).mean(axis=0)
    # Jumps of both step functions as exact fractions of S_a * S_b, so that no interval is lost to rounding.
    jumps = np.union1d(np.arange(1, len(a) + 1) * len(b), np.arange(1, len(b) + 1) * len(a))
    lefts = np.concatenate([[0], jumps[:-1]])
    widths = (jumps - lefts) / (len(a) * len(b))
    return np.einsum("s,sk->k", widths, np.abs(a[lefts // len(b)] - b[lefts // len(a)]))


def sliced_wasserstein(
    a: Array, b: Array, sd: Array, *, num: int = NUM_DIRECTIONS, seed: int = DIRECTIONS_SEED
) -> float:
    """Sliced 1-Wasserstein distance: mean over random directions w of W(w . a / sd, w . b / sd).

    Args:
        a: [S_a, D].
        b: [S_b, D].
        sd: [D], the reference sd that makes coordinates comparable.
        num: number of directions.
        seed: of the directions; the default makes every comparison use the same ones.
    """
    planes = directions(a.shape[1], num, seed=seed).T
    return float(wasserstein_1d((a / sd) @ planes, (b / sd) @ planes).mean())


def sliced_wasserstein_floor(
    exact: Callable[[int, np.random.Generator], Array], sd: Array, *, num_draws: int, num_pairs: int, seed: int
) -> tuple[float, float]:
    """What exact samples get: mean and 99 % quantile of the distance over pairs of independent exact samples.

    Args:
        exact: (n, rng) -> [n, D].
        sd: [D].
        num_draws: S of each sample.
        num_pairs: pairs to average over.
        seed: of the samples.
    """
    rng = np.random.default_rng(seed)
    found = [sliced_wasserstein(exact(num_draws, rng), exact(num_draws, rng), sd) for _ in range(num_pairs)]
    return float(np.mean(found)), float(np.quantile(found, 0.99))


def halves_floor(
    reference: Array, num_draws: int, sd: Array, *, num_splits: int = 50, seed: int = 0
) -> tuple[float, float]:
    """Sliced Wasserstein distance of ``num_draws`` exact draws to a reference [S', D] that is all there is.

    From random halves of the reference, h draws each, times sqrt((1 / S + 1 / S') / (2 / h)): mean, and 99 % quantile.
    """
    rng, half = np.random.default_rng(seed), len(reference) // 2
    found = []
    for _ in range(num_splits):
        order = rng.permutation(len(reference))
        found.append(sliced_wasserstein(reference[order[:half]], reference[order[half : 2 * half]], sd))
    scale = np.sqrt((1.0 / num_draws + 1.0 / len(reference)) / (2.0 / half))
    return float(np.mean(found) * scale), float(np.quantile(found, 0.99) * scale)


def mode_weights(assignment: Array, num_modes: int) -> Array:
    """Share of draws in each mode, [num_modes]. Assignment: [S], integers from 0."""
    return np.bincount(assignment, minlength=num_modes) / len(assignment)


def max_mode_weight_error(assignment: Array, weights: Array) -> float:
    """Largest |share of draws - true weight| over modes. Assignment [S]; weights [number of modes], adding up to 1."""
    weights = np.asarray(weights)
    return float(np.max(np.abs(mode_weights(assignment, len(weights)) - weights)))


def mode_total_variation(assignment: Array, weights: Array) -> float:
    """Half the sum over modes of |share of draws - true weight|. Assignment [S]; weights [number of modes]."""
    weights = np.asarray(weights)
    return float(0.5 * np.abs(mode_weights(assignment, len(weights)) - weights).sum())


def positive_share(values: Array) -> float:
    """Share of values above zero, such as P(tau > 0). Values [S]."""
    return float(np.mean(values > 0))
