"""Moments of a trained sampler, put right by what the contrast's importance weights say of the target's.

At the end of training the contrast r is often nearer to the target than the sampler is, and its density is known:
draws of r weighted by p / r give means and covariances of p with hardly more noise than as many draws of p. An affine
map of the whitened coordinates gives them to the sampler. Sampler, critic and contrast live in these coordinates and
stay as they are: only the map to z changes, so that log q = log r + T holds as before.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from neural_vb import psis
from neural_vb._types import Array
from neural_vb.whitening import Whitening

NUM_DRAWS = 32_768  # of the contrast, and of the sampler
NUM_GUARDS = 4_096  # of the sampler's draws, at which the contrast must not be much too small
ABOVE, MISSED = 3.0, 0.01  # nats above log Z that log p - log r may be, but for this share of them
USABLE = 0.2  # effective share of the weighted draws
NOISE = 3.0  # standard errors; what is below is left as it is
LARGEST = 0.5  # of a mean, in sds, and of a covariance in u; what is farther off is another error, and is not hidden


class Moments(NamedTuple):
    """Of draws u, with the variances of their estimates.

    Attributes:
        mean: [D].
        covariance: [D, D].
        mean_noise: [D], squared standard errors.
        covariance_noise: [D, D].
    """

    mean: Array
    covariance: Array
    mean_noise: Array
    covariance_noise: Array

    @classmethod
    def of(cls, u: Array, weights: Array) -> Moments:
        """u [S, D] with weights [S] whose sum is one."""
        mean = weights @ u
        around = u - mean
        covariance = (weights[:, np.newaxis] * around).T @ around
        squares, share = around**2, (weights**2)[:, np.newaxis]
        products = (share * squares).T @ squares - 2.0 * covariance * ((share * around).T @ around)
        return cls(mean, covariance, (share * squares).sum(0), products + (weights**2).sum() * covariance**2)


def target_moments(u: Array, log_weights: Array, guards: Array) -> Moments | None:
    """Moments of p from draws u [S, D] of r.

    Args:
        u: [S, D].
        log_weights: [S], log p - log r, nats.
        guards: [M], log p - log r at draws of the sampler.

    Returns:
        None where k-hat is .7 or more, where the weights are those of few draws, or where the sampler goes to places
        that r does not: then its draws know nothing of what r misses.
    """
    smoothed = psis.smooth(log_weights)
    weights = np.exp(smoothed.log_weights)
    log_z = np.logaddexp.reduce(np.where(np.isfinite(log_weights), log_weights, -np.inf)) - np.log(len(u))
    missed = (~(guards < log_z + ABOVE)).mean()
    if not (smoothed.pareto_k < psis.USABLE and (weights**2).sum() * len(u) * USABLE < 1.0 and missed < MISSED):
        return None
    return Moments.of(np.where(weights[:, np.newaxis] > 0.0, u, 0.0), weights)


def matched(whitening: Whitening, q: Moments, p: Moments) -> tuple[Whitening, bool]:
    """The map from u to y after which the sampler has p's moments, where these differ by more than their noise.

    With the lower triangular A, A C_q A^T = C, that takes the sampler's covariance to the corrected one, u becomes

        m + A (u - m_q),

    where entries of m and C are those of p if they are more than three standard errors from q's, else q's own.

    Args:
        whitening: of u.
        q: of the sampler's draws u.
        p: of the target in u.

    Returns:
        The map, and whether it is another one.
    """
    mean = _significant(p.mean - q.mean, p.mean_noise + q.mean_noise)
    covariance = _significant(p.covariance - q.covariance, p.covariance_noise + q.covariance_noise)
    if not (mean.any() or covariance.any()) or max(np.abs(mean).max(), np.abs(covariance).max()) > LARGEST:
        return whitening, False
    try:
        factor = np.linalg.cholesky(q.covariance)
        move = np.linalg.solve(factor.T, np.linalg.cholesky(q.covariance + covariance).T).T
    except np.linalg.LinAlgError:
        return whitening, False
    shift = whitening.shift + whitening.scale_tril @ (q.mean + mean - move @ q.mean)
    return replace(whitening, shift=shift, scale_tril=np.tril(whitening.scale_tril @ move)), True


def _significant(difference: Array, noise: Array) -> Array:
    """Differences beyond their noise, else zero."""
    return np.where(difference**2 > NOISE**2 * noise, difference, 0.0)
